# store: the log's tiles and checkpoints, snapshots, findings: nobody can delete or overwrite them for a while.
# inbox: partners' files and callbacks too large for a queue: they hold addresses, and are deleted after a while.

locals {
  # An object of the inbox is deleted for good a day after it expired; what replaces one in the store waits for its lock.
  expiry = {
    store = { current = null, noncurrent = var.object_lock.days + 1 }
    inbox = { current = var.inbox_days, noncurrent = 1 }
  }
}

# trivy:ignore:AVD-AWS-0089 access logs need a bucket of the team's own: access_log_bucket
# trivy:ignore:s3-bucket-logging the same
resource "aws_s3_bucket" "this" {
  # tf-nag:skip=AwsSolutions-S1: as for checkov
  # checkov:skip=CKV_AWS_18: access logs need a bucket of the team's own: access_log_bucket
  # checkov:skip=CKV_AWS_144: a copy in another region is the team's decision, as it moves personal data
  # checkov:skip=CKV_AWS_145: the key is an input, kms_key_arn; without it objects are encrypted with AWS's own
  # checkov:skip=CKV2_AWS_62: the inbox tells its queue of every file; nothing waits for what the functions put into the store
  for_each = local.bucket_names

  bucket              = each.value
  force_destroy       = !var.deletion_protection
  object_lock_enabled = each.key == "store"
  tags                = local.tags
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "store" {
  bucket = aws_s3_bucket_versioning.this["store"].bucket

  rule {
    default_retention {
      mode = var.object_lock.mode
      days = var.object_lock.days
    }
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = aws_s3_bucket.this

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    id     = "expiry"
    status = "Enabled"

    filter {}

    dynamic "expiration" {
      for_each = local.expiry[each.key].current[*]

      content {
        days = expiration.value
      }
    }

    noncurrent_version_expiration {
      noncurrent_days = local.expiry[each.key].noncurrent
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  # Versions that were replaced are only known once there are versions.
  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_logging" "this" {
  for_each = var.access_log_bucket == null ? {} : aws_s3_bucket.this

  bucket        = each.value.id
  target_bucket = var.access_log_bucket
  target_prefix = "${each.value.id}/"
}

resource "aws_s3_bucket_policy" "this" {
  for_each = aws_s3_bucket_public_access_block.this

  bucket = each.value.bucket
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [local.bucket_arns[each.key], "${local.bucket_arns[each.key]}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      # SES reads an import with its own identity, for this account's jobs alone.
      each.key == "inbox" && var.ses != null ? [{
        Sid       = "SesReadsImports"
        Effect    = "Allow"
        Principal = { Service = "ses.amazonaws.com" }
        Action    = "s3:GetObject"
        Resource  = "${local.bucket_arns.inbox}/${local.imports_prefix}*"
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      }] : [],
    )
  })
}

resource "aws_s3_bucket_notification" "inbox" {
  bucket = aws_s3_bucket.this["inbox"].id

  queue {
    id            = "proofs"
    queue_arn     = aws_sqs_queue.this["proofs"].arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = "proofs/"
  }

  # S3 tries whether it may write before it takes this.
  depends_on = [aws_sqs_queue_policy.this]
}
