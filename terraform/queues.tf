locals {
  # What waits in each queue, and which function takes it. A message that its function gave back too often goes to the
  # queue's dead letters.
  queues = merge(
    {
      callbacks = { function = "worker", batch = 10, tries = 8 }
      work      = { function = "scheduled", batch = 1, tries = 5 }
      proofs    = { function = "proofs", batch = 1, tries = 3 }
    },
    var.ses == null ? {} : { ses = { function = "worker", batch = 10, tries = 8 } },
  )

  # tasks: calls of the scheduler that failed for good; stream: pieces of the ledger's stream that could not be pushed.
  dead_letter_queues = concat(keys(local.queues), ["stream", "tasks"])

  # AWS asks for six times the function's time-out, so that nothing is taken twice while the function is throttled.
  visibility_factor = 6

  # Whom else than the functions' roles the queues let write: AWS's own services, for this account's resources alone.
  queue_senders = {
    proofs = {
      service = "s3.amazonaws.com"
      source  = local.bucket_arns.inbox
    }
    ses = {
      service = "sns.amazonaws.com"
      source  = local.events_topic_arn
    }
  }
}

resource "aws_sqs_queue" "this" {
  # checkov:skip=CKV_AWS_27: the key is an input, kms_key_arn; without it messages are encrypted with SQS's own
  for_each = local.queues

  name                              = "${var.name}-${each.key}"
  visibility_timeout_seconds        = local.visibility_factor * var.timeout[each.value.function]
  message_retention_seconds         = 14 * 86400
  receive_wait_time_seconds         = 20
  sqs_managed_sse_enabled           = var.kms_key_arn == null ? true : null
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = 300
  tags                              = local.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead[each.key].arn
    maxReceiveCount     = each.value.tries
  })
}

resource "aws_sqs_queue" "dead" {
  # tf-nag:skip=AwsSolutions-SQS3: these are the queues of dead letters; Lambda and the scheduler write into two of them
  # checkov:skip=CKV_AWS_27: the key is an input, kms_key_arn; without it messages are encrypted with SQS's own
  for_each = toset(local.dead_letter_queues)

  name                              = "${var.name}-${each.key}-dead"
  message_retention_seconds         = 14 * 86400
  sqs_managed_sse_enabled           = var.kms_key_arn == null ? true : null
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = 300
  tags                              = local.tags
}

resource "aws_sqs_queue_redrive_allow_policy" "this" {
  for_each = local.queues

  queue_url = aws_sqs_queue.dead[each.key].id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.this[each.key].arn]
  })
}

resource "aws_sqs_queue_policy" "this" {
  for_each = local.queues

  queue_url = aws_sqs_queue.this[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = local.queue_arns[each.key]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      [for name, sender in local.queue_senders : {
        Sid       = "Sender"
        Effect    = "Allow"
        Principal = { Service = sender.service }
        Action    = "sqs:SendMessage"
        Resource  = local.queue_arns[each.key]
        # Whoever may write here can invent a withdrawal or an open.
        Condition = {
          StringEquals = { "aws:SourceAccount" = local.account }
          ArnEquals    = { "aws:SourceArn" = sender.source }
        }
      } if name == each.key],
    )
  })
}

resource "aws_sqs_queue_policy" "dead" {
  for_each = toset(local.dead_letter_queues)

  queue_url = aws_sqs_queue.dead[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = local.queue_arns["${each.key}-dead"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

resource "aws_lambda_event_source_mapping" "queue" {
  for_each = local.queues

  event_source_arn        = aws_sqs_queue.this[each.key].arn
  function_name           = aws_lambda_function.this[each.value.function].arn
  batch_size              = each.value.batch
  function_response_types = ["ReportBatchItemFailures"]
  tags                    = local.tags

  scaling_config {
    maximum_concurrency = var.concurrency[each.value.function]
  }

  # Lambda tries whether it may read before it takes this.
  depends_on = [aws_iam_role_policy.function]
}
