# The value is put in by hand (`aws secretsmanager put-secret-value`): what Terraform writes would stand in its state.

locals {
  secrets_arn = var.secrets_arn == null ? aws_secretsmanager_secret.this[0].arn : var.secrets_arn
}

resource "aws_secretsmanager_secret" "this" {
  # tf-nag:skip=AwsSolutions-SMG4: as for checkov
  # checkov:skip=CKV_AWS_149: the key is an input, kms_key_arn; without it the secret is encrypted with AWS's own
  # checkov:skip=CKV2_AWS_57: the keys give pseudonyms and links their meaning: a blind rotation would cut off every choice; README.md of the project says how each is rotated
  count = var.secrets_arn == null ? 1 : 0

  name                    = "${var.name}/secrets"
  description             = "Keys of pixelproof and of the ESPs: a JSON object, a member for each variable"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.deletion_protection ? 30 : 0
  tags                    = local.tags
}

resource "aws_ssm_parameter" "settings" {
  # checkov:skip=CKV2_AWS_34: settings hold no secrets, and Terraform's state holds them anyway
  # checkov:skip=CKV_AWS_337: the same
  count = var.settings_location == null ? 1 : 0

  name        = local.settings_parameter
  description = "pixelproof.toml"
  type        = "String"
  # 4 KiB are free of charge; more, up to 8 KiB, costs some cents a month.
  tier  = "Intelligent-Tiering"
  value = var.settings
  tags  = local.tags
}
