variable "name" {
  description = "What every resource's name begins with; the prefix of the tables. Two deployments in one account need two names. It cannot be changed later without losing the tables."
  type        = string
  default     = "pixelproof"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name: 3 to 24 lower-case letters, digits and hyphens, beginning with a letter and not ending in a hyphen (S3 allows 63 characters for the whole name of a bucket)."
  }
}

variable "app_zip" {
  description = "The path of the zip with the application, as `make lambda` builds it for `architecture` and `python_version`."
  type        = string

  validation {
    condition     = fileexists(var.app_zip)
    error_message = "app_zip: there is no such file; build it with `make lambda`."
  }
}

variable "bulk_zip" {
  description = "The path of the zip that also holds what reconciliation takes (DuckDB)."
  type        = string

  validation {
    condition     = fileexists(var.bulk_zip)
    error_message = "bulk_zip: there is no such file; build it with `make lambda`."
  }
}

variable "architecture" {
  description = "The processors that the zips were built for: `arm64` or `x86_64`."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture: arm64 or x86_64."
  }
}

variable "python_version" {
  description = "The Python of Lambda that the zips were built for: `3.11`, `3.12` or `3.13`."
  type        = string
  default     = "3.13"

  validation {
    condition     = contains(["3.11", "3.12", "3.13"], var.python_version)
    error_message = "python_version: 3.11, 3.12 or 3.13."
  }
}

variable "settings" {
  description = "The text of `pixelproof.toml`. It holds no secrets: it is kept in a parameter of Systems Manager and in the state. `base_url` may be the output `url`."
  type        = string
  default     = null

  validation {
    condition     = var.settings == null ? true : length(var.settings) <= 8192
    error_message = "settings: more than 8 KiB do not fit into a parameter; put the file into the zip or into S3 and name it in settings_location."
  }
}

variable "settings_location" {
  description = "Where the settings are when `settings` is not given: a file in the zip (`/var/task/pixelproof.toml`), `s3://<bucket>/<key>` or `ssm:<parameter>`."
  type        = string
  default     = null

  validation {
    condition     = (var.settings_location == null) != (var.settings == null)
    error_message = "settings_location: give either settings or settings_location."
  }

  validation {
    condition     = var.settings_location == null ? true : can(regex("^(/var/task/.+|s3://[a-z0-9.-]{3,63}/.+|ssm:/[A-Za-z0-9_./-]+)$", var.settings_location))
    error_message = "settings_location: /var/task/<file>, s3://<bucket>/<key> or ssm:/<parameter>."
  }
}

variable "secrets_arn" {
  description = "A secret of Secrets Manager that exists already: one JSON object, a member for each variable (`PIXELPROOF_RECIPIENT_KEY` …). Without it an empty one is made, which is filled by hand: no value ever comes into the state."
  type        = string
  default     = null

  validation {
    condition     = var.secrets_arn == null ? true : can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^*?]+$", var.secrets_arn))
    error_message = "secrets_arn: the ARN of one secret of Secrets Manager."
  }
}

variable "secrets_version" {
  description = "Any text. Functions read the secrets when they start; a new text here makes them start anew, after a key was rotated for example."
  type        = string
  default     = "1"
}

variable "kms_key_arn" {
  description = "The KMS key for tables, queues, buckets, logs, topics and the secret. Without it AWS's own keys are used. What the key's policy must allow stands in README.md."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "kms_key_arn: the ARN of a KMS key (not of an alias)."
  }
}

variable "addresses_kms_key_arn" {
  description = "A KMS key of its own for the table of addresses. Without it `kms_key_arn` is taken."
  type        = string
  default     = null

  validation {
    condition     = var.addresses_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.addresses_kms_key_arn))
    error_message = "addresses_kms_key_arn: the ARN of a KMS key (not of an alias)."
  }
}

variable "deletion_protection" {
  description = "Whether tables refuse to be deleted, and buckets refuse while they hold anything. False only to tear a test down."
  type        = bool
  default     = true
}

variable "ledger_table_policy" {
  description = "Whether the ledger's table itself refuses updates and deletions to everybody in the account, beside the roles made here. False only for a stand-in of AWS that knows no such policies."
  type        = bool
  default     = true
}

variable "object_lock" {
  description = "How long nobody can delete or overwrite what the log, the snapshots and the findings are made of. `COMPLIANCE` binds the account's root too and cannot be taken back; `GOVERNANCE` can be lifted by who holds `s3:BypassGovernanceRetention`, which no function does."
  type = object({
    mode = optional(string, "GOVERNANCE")
    days = optional(number, 365)
  })
  default = {}

  validation {
    condition     = contains(["COMPLIANCE", "GOVERNANCE"], var.object_lock.mode)
    error_message = "object_lock: mode is COMPLIANCE or GOVERNANCE."
  }

  validation {
    condition     = var.object_lock.days >= 1 && var.object_lock.days <= 3650 && floor(var.object_lock.days) == var.object_lock.days
    error_message = "object_lock: days is a whole number from 1 to 3650."
  }
}

variable "inbox_days" {
  description = "After how many days partners' files, and callbacks too large for a queue, are deleted. They hold addresses. At least 28: as long as a message can wait in a queue and then in its dead-letter queue."
  type        = number
  default     = 30

  validation {
    condition     = var.inbox_days >= 28 && var.inbox_days <= 365 && floor(var.inbox_days) == var.inbox_days
    error_message = "inbox_days: a whole number from 28 to 365."
  }
}

variable "access_log_bucket" {
  description = "A bucket that takes the access logs of the buckets made here. Without it none are written."
  type        = string
  default     = null

  validation {
    condition     = var.access_log_bucket == null ? true : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.access_log_bucket))
    error_message = "access_log_bucket: the name of a bucket."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept. They hold no personal data."
  type        = number
  default     = 90

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days: one of the numbers that CloudWatch Logs knows (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653); never unlimited."
  }
}

variable "log_level" {
  description = "The least severe level that the functions log: `DEBUG`, `INFO`, `WARNING` or `ERROR`."
  type        = string
  default     = "INFO"

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "log_level: DEBUG, INFO, WARNING or ERROR."
  }
}

variable "tracing" {
  description = "Whether the functions send traces to X-Ray."
  type        = bool
  default     = false
}

variable "memory" {
  description = "The memory of each function in MiB; processors come in proportion (a whole one at 1,769)."
  type = object({
    http      = optional(number, 512)
    worker    = optional(number, 512)
    scheduled = optional(number, 1024)
    stream    = optional(number, 512)
    proofs    = optional(number, 3008)
  })
  default = {}

  validation {
    condition     = alltrue([for size in values(var.memory) : size >= 256 && size <= 10240])
    error_message = "memory: from 256 to 10240."
  }
}

variable "timeout" {
  description = "After how many seconds each function is stopped. An HTTP API waits 30 seconds; each queue hides a message for six times as long as its function may take."
  type = object({
    http      = optional(number, 15)
    worker    = optional(number, 60)
    scheduled = optional(number, 900)
    stream    = optional(number, 120)
    proofs    = optional(number, 900)
  })
  default = {}

  validation {
    condition     = var.timeout.http >= 3 && var.timeout.http <= 29
    error_message = "timeout: http from 3 to 29, as the HTTP API waits no longer than 30 seconds."
  }

  validation {
    condition     = alltrue([for seconds in values(var.timeout) : seconds >= 3 && seconds <= 900])
    error_message = "timeout: from 3 to 900."
  }
}

variable "concurrency" {
  description = "How many of each function run at once at most. `worker` and `proofs` are also the most that their queues call at once."
  type = object({
    http      = optional(number, 100)
    worker    = optional(number, 20)
    scheduled = optional(number, 10)
    stream    = optional(number, 10)
    proofs    = optional(number, 2)
  })
  default = {}

  validation {
    condition     = alltrue([for most in values(var.concurrency) : most >= 2 && most <= 1000])
    error_message = "concurrency: from 2 to 1000 (a queue calls at least two at once)."
  }
}

variable "reserve_concurrency" {
  description = "Whether `concurrency` is also reserved, so that no function takes the others' share. An account that may run fewer than 250 at once (new ones may run ten) must say false until AWS has raised its quota."
  type        = bool
  default     = true
}

variable "schedules" {
  description = "When each task runs, in the form of EventBridge Scheduler. A task that is left out does not run by itself."
  type        = map(string)
  default = {
    sync     = "rate(1 hour)"
    poll     = "rate(15 minutes)"
    notarise = "rate(1 minute)"
    expire   = "rate(1 day)"
    purge    = "rate(1 day)"
  }

  validation {
    condition     = length(setsubtract(keys(var.schedules), ["sync", "poll", "notarise", "expire", "purge"])) == 0
    error_message = "schedules: the tasks are sync, poll, notarise, expire and purge."
  }

  validation {
    condition     = alltrue([for when in values(var.schedules) : can(regex("^(rate|cron)\\(.+\\)$", when))])
    error_message = "schedules: rate(…) or cron(…), as EventBridge Scheduler writes them."
  }

  validation {
    condition     = contains(keys(var.schedules), "sync") && contains(keys(var.schedules), "purge")
    error_message = "schedules: without sync a withdrawal that could not be pushed at once would never reach the ESP, without purge nothing would ever be deleted; both must run."
  }
}

variable "schedule_timezone" {
  description = "The time zone of schedules that are given as cron(…)."
  type        = string
  default     = "UTC"
}

variable "schedule_silence_hours" {
  description = "After how many hours without any task the alarm says so. More than the longest that may lie between two tasks."
  type        = number
  default     = 2

  validation {
    condition     = var.schedule_silence_hours >= 1 && var.schedule_silence_hours <= 24 && floor(var.schedule_silence_hours) == var.schedule_silence_hours
    error_message = "schedule_silence_hours: a whole number from 1 to 24."
  }
}

variable "ses" {
  description = "What is needed beside Amazon SES: the configuration sets whose events arrive by SNS and SQS, and the contact list. Null: SES is not used."
  type = object({
    configuration_sets = optional(set(string), ["pixelproof-tracked", "pixelproof-untracked"])
    contact_list       = optional(string, "pixelproof")
  })
  default = null

  validation {
    condition     = var.ses == null ? true : length(var.ses.configuration_sets) > 0 && alltrue([for each in var.ses.configuration_sets : can(regex("^[A-Za-z0-9_-]{1,64}$", each))])
    error_message = "ses: configuration_sets names at least one, of letters, digits, _ and -."
  }

  validation {
    condition     = var.ses == null ? true : can(regex("^[A-Za-z0-9_-]{1,64}$", var.ses.contact_list))
    error_message = "ses: contact_list is made of letters, digits, _ and -."
  }
}

variable "domain" {
  description = "The name under which recipients and ESPs reach the application, and its certificate of ACM in the same region. With it the API's own address is switched off. Null: the API's own address is used."
  type = object({
    name            = string
    certificate_arn = string
  })
  default = null

  validation {
    condition     = var.domain == null ? true : can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain.name))
    error_message = "domain: name is a host name in lower case."
  }

  validation {
    condition     = var.domain == null ? true : can(regex("^arn:[a-z-]+:acm:[a-z0-9-]+:[0-9]{12}:certificate/[A-Za-z0-9-]+$", var.domain.certificate_arn))
    error_message = "domain: certificate_arn is the ARN of a certificate of ACM."
  }
}

variable "throttling" {
  description = "How many requests the HTTP API takes a second, and at once. Above it answers 429, which ESPs repeat."
  type = object({
    rate  = optional(number, 1000)
    burst = optional(number, 2000)
  })
  default = {}

  validation {
    condition     = var.throttling.rate >= 1 && var.throttling.burst >= 1
    error_message = "throttling: at least 1; 0 would refuse everything, withdrawals too."
  }
}

variable "alarm_actions" {
  description = "Whom alarms tell: ARNs of SNS topics. Empty: a topic is made, see the output `alarm_topic_arn`."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for each in var.alarm_actions : can(regex("^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$", each))])
    error_message = "alarm_actions: ARNs of SNS topics."
  }
}

variable "alarm_email" {
  description = "An address that the topic made for alarms tells; it is asked to confirm."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null ? true : can(regex("^[^@\\s]+@[^@\\s]+$", var.alarm_email)) && length(var.alarm_actions) == 0
    error_message = "alarm_email: an e-mail address, and only where alarm_actions is empty."
  }
}

variable "oldest_message_minutes" {
  description = "How old a waiting callback or proof file may get before an alarm says so."
  type        = number
  default     = 15

  validation {
    condition     = var.oldest_message_minutes >= 1 && var.oldest_message_minutes <= 1440
    error_message = "oldest_message_minutes: from 1 to 1440."
  }
}

variable "code_signing_config_arn" {
  description = "A code signing configuration of Lambda that the zips must satisfy."
  type        = string
  default     = null

  validation {
    condition     = var.code_signing_config_arn == null ? true : can(regex("^arn:[a-z-]+:lambda:[a-z0-9-]+:[0-9]{12}:code-signing-config:csc-[a-z0-9]{17}$", var.code_signing_config_arn))
    error_message = "code_signing_config_arn: the ARN of a code signing configuration of Lambda."
  }
}

variable "permissions_boundary_arn" {
  description = "A policy that bounds every role made here, where the account asks for one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null ? true : can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/.+$", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn: the ARN of a policy of IAM."
  }
}

variable "tags" {
  description = "Tags of every resource, beside `application` and `deployment`."
  type        = map(string)
  default     = {}
}
