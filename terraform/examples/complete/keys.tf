# What the policy of a key must allow: the account's own administration, the services that encrypt for the module, and
# the services that write into its queues and topics.

locals {
  writers = {
    data      = ["s3.amazonaws.com", "sns.amazonaws.com", "ses.amazonaws.com", "cloudwatch.amazonaws.com"]
    addresses = []
  }
}

resource "aws_kms_key" "this" {
  for_each = local.writers

  description             = "pixelproof: ${each.key}"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "Account"
        Effect    = "Allow"
        Principal = { AWS = "arn:${data.aws_partition.current.partition}:iam::${local.account}:root" }
        Action    = "kms:*"
        Resource  = "*"
      }],
      length(each.value) == 0 ? [] : [{
        Sid       = "Writers"
        Effect    = "Allow"
        Principal = { Service = each.value }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      }],
      each.key != "data" ? [] : [{
        Sid       = "Logs"
        Effect    = "Allow"
        Principal = { Service = "logs.${var.region}.amazonaws.com" }
        Action    = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
        Resource  = "*"
        Condition = {
          ArnLike = { "kms:EncryptionContext:aws:logs:arn" = "arn:${data.aws_partition.current.partition}:logs:${var.region}:${local.account}:log-group:/aws/*/${local.name}*" }
        }
      }],
    )
  })
}
