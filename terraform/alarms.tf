# Every alarm says in its description what to do. Each tells alarm_actions, or the topic made here.

locals {
  alarm_actions = length(var.alarm_actions) > 0 ? var.alarm_actions : [aws_sns_topic.alarms[0].arn]

  # A metric of AWS that is above the threshold for so many periods. Missing data are no breach unless they say so.
  alarms = merge(
    {
      for name in local.dead_letter_queues : "dead-letters-${name}" => {
        about      = "Messages of ${name} failed for good. Read them, mend the cause, and move them back (start-message-move-task)."
        namespace  = "AWS/SQS"
        metric     = "ApproximateNumberOfMessagesVisible"
        dimensions = { QueueName = "${var.name}-${name}-dead" }
        statistic  = "Maximum"
        period     = 60
        periods    = 1
        threshold  = 0
      }
    },
    {
      for name in keys(local.queues) : "oldest-${name}" => {
        about      = "A message of ${name} waits too long: its function fails, is throttled or is switched off. See the function's errors."
        namespace  = "AWS/SQS"
        metric     = "ApproximateAgeOfOldestMessage"
        dimensions = { QueueName = "${var.name}-${name}" }
        statistic  = "Maximum"
        period     = 60
        periods    = 3
        threshold  = 60 * var.oldest_message_minutes
      }
    },
    {
      for name in keys(local.functions) : "errors-${name}" => {
        about      = "The function ${name} failed. See its log; what it was called with comes again or lies in dead letters."
        namespace  = "AWS/Lambda"
        metric     = "Errors"
        dimensions = { FunctionName = "${var.name}-${name}" }
        statistic  = "Sum"
        period     = 300
        periods    = 1
        threshold  = 0
      }
    },
    {
      for name in keys(local.functions) : "throttles-${name}" => {
        about      = "The function ${name} was called more often than it may run at once. Raise concurrency, or the account's quota."
        namespace  = "AWS/Lambda"
        metric     = "Throttles"
        dimensions = { FunctionName = "${var.name}-${name}" }
        statistic  = "Sum"
        period     = 300
        periods    = 2
        threshold  = 0
      }
    },
    {
      http-5xx = {
        about      = "The HTTP API answered 5xx: ESPs send again, recipients do not. See the log of the function http."
        namespace  = "AWS/ApiGateway"
        metric     = "5xx"
        dimensions = { ApiId = aws_apigatewayv2_api.this.id }
        statistic  = "Sum"
        period     = 300
        periods    = 1
        threshold  = 0
      }
      stream-lag = {
        about      = "Entries of the ledger wait for the stream's function: withdrawals reach the ESPs by the next sync only. The stream keeps 24 hours."
        namespace  = "AWS/Lambda"
        metric     = "IteratorAge"
        dimensions = { FunctionName = "${var.name}-stream" }
        statistic  = "Maximum"
        period     = 60
        periods    = 5
        threshold  = 300000
      }
      schedule-dropped = {
        about      = "EventBridge Scheduler gave up calling a task. See the queue of dead letters of the tasks."
        namespace  = "AWS/Scheduler"
        metric     = "InvocationDroppedCount"
        dimensions = { ScheduleGroup = var.name }
        statistic  = "Sum"
        period     = 300
        periods    = 1
        threshold  = 0
      }
      callbacks-not-understood = {
        about      = "A callback could not be understood, or came to nobody known, and is kept. See `pixelproof callbacks dead list`."
        namespace  = "pixelproof"
        metric     = "DeadLetters"
        dimensions = {}
        statistic  = "Sum"
        period     = 300
        periods    = 1
        threshold  = 0
      }
      incidents = {
        about      = "Opens were seen that should not have been, or the log was found altered. See `pixelproof incidents list`."
        namespace  = "pixelproof"
        metric     = "Incidents"
        dimensions = {}
        statistic  = "Sum"
        period     = 300
        periods    = 1
        threshold  = 0
      }
    },
  )
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.about
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = each.value.periods
  threshold           = each.value.threshold
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "schedule_silence" {
  alarm_name          = "${var.name}-schedule-silence"
  alarm_description   = "No task ran for ${var.schedule_silence_hours} hours: nothing is synced, notarised or deleted. See whether the schedules are enabled, and the scheduler's role."
  namespace           = "AWS/Scheduler"
  metric_name         = "InvocationAttemptCount"
  dimensions          = { ScheduleGroup = aws_scheduler_schedule_group.this.name }
  statistic           = "Sum"
  period              = 3600
  evaluation_periods  = var.schedule_silence_hours
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
  tags                = local.tags
}

resource "aws_sns_topic" "alarms" {
  # checkov:skip=CKV_AWS_26: the key is an input, kms_key_arn; alarms name no person
  count = length(var.alarm_actions) > 0 ? 0 : 1

  name              = "${var.name}-alarms"
  kms_master_key_id = var.kms_key_arn
  tags              = local.tags
}

resource "aws_sns_topic_policy" "alarms" {
  count = length(var.alarm_actions) > 0 ? 0 : 1

  arn = aws_sns_topic.alarms[0].arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Alarms"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms[0].arn
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      },
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms[0].arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

resource "aws_sns_topic_subscription" "alarms" {
  count = var.alarm_email == null ? 0 : 1

  topic_arn = aws_sns_topic.alarms[0].arn
  protocol  = "email"
  endpoint  = var.alarm_email
}
