# Events of SES by SNS into SQS: SNS repeats for 23 days until the queue has them.

locals {
  # Where the connector puts what SES shall import.
  imports_prefix = "pixelproof/"
}

resource "aws_sns_topic" "events" {
  # checkov:skip=CKV_AWS_26: the key is an input, kms_key_arn; without it SNS keeps messages encrypted on disk only
  count = var.ses == null ? 0 : 1

  name              = "${var.name}-ses-events"
  kms_master_key_id = var.kms_key_arn
  signature_version = 2
  tags              = local.tags
}

resource "aws_sns_topic_policy" "events" {
  count = var.ses == null ? 0 : 1

  arn = aws_sns_topic.events[0].arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # Without both conditions SES could publish for any account.
        Sid       = "PixelproofSesEvents"
        Effect    = "Allow"
        Principal = { Service = "ses.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = local.events_topic_arn
        Condition = {
          StringEquals = {
            "aws:SourceAccount" = local.account
            "aws:SourceArn" = [
              for each in sort(var.ses.configuration_sets) :
              "arn:${local.partition}:ses:${local.region}:${local.account}:configuration-set/${each}"
            ]
          }
        }
      },
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sns:Publish"
        Resource  = local.events_topic_arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

# Not raw: SNS's envelope carries its signature, which is checked.
resource "aws_sns_topic_subscription" "events" {
  count = var.ses == null ? 0 : 1

  topic_arn            = aws_sns_topic.events[0].arn
  protocol             = "sqs"
  endpoint             = aws_sqs_queue.this["ses"].arn
  raw_message_delivery = false

  depends_on = [aws_sqs_queue_policy.this]
}
