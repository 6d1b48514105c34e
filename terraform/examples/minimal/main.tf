# The least that a team must say: the zips, the settings, and whom alarms tell.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

variable "region" {
  description = "The region of AWS."
  type        = string
  default     = "eu-west-3"
}

variable "app_zip" {
  description = "As `make lambda` builds it."
  type        = string
  default     = "../../../dist/lambda/app-arm64.zip"
}

variable "bulk_zip" {
  description = "As `make lambda` builds it."
  type        = string
  default     = "../../../dist/lambda/bulk-arm64.zip"
}

variable "alarm_email" {
  description = "Whom alarms tell."
  type        = string
}

variable "deletion_protection" {
  description = "False only to tear a test down."
  type        = bool
  default     = true
}

provider "aws" {
  region = var.region
}

module "pixelproof" {
  source = "../.."

  app_zip             = var.app_zip
  bulk_zip            = var.bulk_zip
  alarm_email         = var.alarm_email
  deletion_protection = var.deletion_protection

  settings = templatefile("${path.module}/pixelproof.toml.tftpl", {
    base_url = module.pixelproof.url
    tables   = module.pixelproof.name
    bucket   = module.pixelproof.buckets.store
  })
}

output "pixelproof" {
  description = "All that the module answers."
  value       = module.pixelproof
}
