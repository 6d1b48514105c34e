# Everything that the module can be told: keys of the team's own, a domain, Amazon SES, a log that nobody can delete.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { team = "privacy" }
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  name    = "pixelproof"
  account = data.aws_caller_identity.current.account_id
}

module "pixelproof" {
  source = "../.."

  name           = local.name
  app_zip        = var.app_zip
  bulk_zip       = var.bulk_zip
  architecture   = "arm64"
  python_version = "3.13"

  settings = templatefile("${path.module}/pixelproof.toml.tftpl", {
    base_url      = module.pixelproof.url
    tables        = module.pixelproof.name
    bucket        = module.pixelproof.buckets.store
    topic_arn     = module.pixelproof.events_topic_arn
    import_bucket = module.pixelproof.import_bucket
    region        = var.region
  })

  kms_key_arn           = aws_kms_key.this["data"].arn
  addresses_kms_key_arn = aws_kms_key.this["addresses"].arn

  domain = var.certificate_arn == null ? null : {
    name            = var.domain
    certificate_arn = var.certificate_arn
  }

  ses = {
    configuration_sets = ["pixelproof-tracked", "pixelproof-untracked"]
    contact_list       = "pixelproof"
  }

  # Nobody, the account's root included, deletes what was signed, for five years.
  object_lock         = { mode = var.lock_mode, days = var.lock_days }
  access_log_bucket   = var.access_log_bucket
  deletion_protection = var.deletion_protection
  ledger_table_policy = var.ledger_table_policy
  inbox_days          = 60

  schedules = {
    sync     = "rate(30 minutes)"
    poll     = "rate(5 minutes)"
    notarise = "rate(1 minute)"
    expire   = "cron(0 4 * * ? *)"
    purge    = "cron(30 4 * * ? *)"
  }
  schedule_timezone      = "Europe/Paris"
  schedule_silence_hours = 1

  concurrency = { http = 200, worker = 50 }
  memory      = { http = 1024 }
  timeout     = { http = 10 }
  throttling  = { rate = 2000, burst = 4000 }

  log_retention_days       = 365
  log_level                = "INFO"
  tracing                  = true
  alarm_actions            = [aws_sns_topic.on_call.arn]
  oldest_message_minutes   = 5
  permissions_boundary_arn = var.permissions_boundary_arn

  tags = { cost-centre = "privacy" }
}

resource "aws_sns_topic" "on_call" {
  name              = "on-call"
  kms_master_key_id = aws_kms_key.this["data"].arn
}
