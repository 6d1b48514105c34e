variable "region" {
  description = "The region of AWS; SES is used there too."
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

variable "domain" {
  description = "Where recipients and ESPs reach the application."
  type        = string
  default     = "choices.example.com"
}

variable "certificate_arn" {
  description = "The certificate of ACM for the domain; null: the API's own address is used."
  type        = string
  default     = null
}

variable "access_log_bucket" {
  description = "The team's bucket for access logs."
  type        = string
  default     = null
}

variable "permissions_boundary_arn" {
  description = "The policy that bounds roles in this account."
  type        = string
  default     = null
}

variable "lock_mode" {
  description = "GOVERNANCE only to tear a test down."
  type        = string
  default     = "COMPLIANCE"
}

variable "lock_days" {
  description = "For how many days nobody deletes what was signed."
  type        = number
  default     = 1826
}

variable "deletion_protection" {
  description = "False only to tear a test down."
  type        = bool
  default     = true
}

variable "ledger_table_policy" {
  description = "False only for a stand-in of AWS that knows no such policies."
  type        = bool
  default     = true
}
