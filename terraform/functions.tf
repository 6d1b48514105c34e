locals {
  functions = {
    http = {
      description = "Recipients' pages, the API, the pixel, and callbacks into their queue"
      zip         = var.app_zip
      disk        = 512
    }
    worker = {
      description = "Callbacks out of their queue into the ledger"
      zip         = var.app_zip
      disk        = 512
    }
    scheduled = {
      description = "Tasks: sync, poll, notarise, expire, purge"
      zip         = var.app_zip
      disk        = 2048
    }
    stream = {
      description = "Withdrawals to the ESPs as soon as they are in the ledger"
      zip         = var.app_zip
      disk        = 512
    }
    proofs = {
      description = "Partners' proof files against the ledger"
      zip         = var.bulk_zip
      disk        = 10240
    }
  }

  settings_parameter = "/${var.name}/settings"
  settings_location  = coalesce(var.settings_location, "ssm:${local.settings_parameter}")

  environment = merge(
    {
      PIXELPROOF_CONFIG          = local.settings_location
      PIXELPROOF_SECRETS_ARN     = local.secrets_arn
      PIXELPROOF_SECRETS_VERSION = var.secrets_version
      PIXELPROOF_TABLES          = var.name
      PIXELPROOF_BUCKET          = local.bucket_names.store
      PIXELPROOF_INBOX_BUCKET    = local.bucket_names.inbox
      PIXELPROOF_CALLBACKS_QUEUE = aws_sqs_queue.this["callbacks"].id
      PIXELPROOF_WORK_QUEUE      = aws_sqs_queue.this["work"].id
      PIXELPROOF_LOG_LEVEL       = var.log_level
    },
    var.ses == null ? {} : { PIXELPROOF_SES_QUEUE = local.queue_arns["ses"] },
    # Settings are read when a function starts: other settings make it start anew.
    var.settings_location == null ? { PIXELPROOF_SETTINGS_DIGEST = sha256(coalesce(var.settings, "none")) } : {},
  )
}

# trivy:ignore:AVD-AWS-0066 traces are an input, tracing
resource "aws_lambda_function" "this" {
  # tf-nag:skip=AwsSolutions-L1: the version is an input; the newest that provider 5.100 accepts is the default
  # checkov:skip=CKV_AWS_50: traces are an input, tracing
  # checkov:skip=CKV_AWS_115: concurrency is reserved unless the account's quota forbids it: reserve_concurrency
  # checkov:skip=CKV_AWS_116: what was called and not answered goes to dead letters by its event source, and by aws_lambda_function_event_invoke_config
  # checkov:skip=CKV_AWS_117: nothing in a VPC is reached; the ESPs are on the internet
  # checkov:skip=CKV_AWS_173: the variables hold names and no secrets; the key is an input, kms_key_arn
  # checkov:skip=CKV_AWS_272: code signing is an input, code_signing_config_arn
  for_each = local.functions

  function_name                  = "${var.name}-${each.key}"
  description                    = each.value.description
  role                           = aws_iam_role.function[each.key].arn
  handler                        = "webhooks.aws.${each.key}.handler"
  runtime                        = "python${var.python_version}"
  architectures                  = [var.architecture]
  filename                       = each.value.zip
  source_code_hash               = filebase64sha256(each.value.zip)
  memory_size                    = var.memory[each.key]
  timeout                        = var.timeout[each.key]
  reserved_concurrent_executions = var.reserve_concurrency ? var.concurrency[each.key] : -1
  kms_key_arn                    = var.kms_key_arn
  code_signing_config_arn        = var.code_signing_config_arn
  tags                           = local.tags

  environment {
    variables = local.environment
  }

  ephemeral_storage {
    size = each.value.disk
  }

  logging_config {
    log_format       = "JSON"
    log_group        = aws_cloudwatch_log_group.function[each.key].name
    system_log_level = "WARN"
    # Lambda would drop what is below this, metrics (EMF, which count as INFO) among it: the application sifts its lines.
    application_log_level = var.log_level == "DEBUG" ? "DEBUG" : "INFO"
  }

  tracing_config {
    mode = var.tracing ? "Active" : "PassThrough"
  }

  # A function that starts before it may write its log loses the first lines.
  depends_on = [aws_iam_role_policy.function]
}

resource "aws_cloudwatch_log_group" "function" {
  # checkov:skip=CKV_AWS_158: the key is an input, kms_key_arn; without it logs are encrypted with AWS's own
  # checkov:skip=CKV_AWS_338: how long logs are kept is an input, log_retention_days; a year is more than they are needed for
  for_each = local.functions

  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = local.tags
}
