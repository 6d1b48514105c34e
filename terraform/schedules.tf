resource "aws_scheduler_schedule_group" "this" {
  name = var.name
  tags = local.tags
}

resource "aws_scheduler_schedule" "task" {
  # checkov:skip=CKV_AWS_297: the input of a schedule is the name of a task
  for_each = var.schedules

  name                         = "${var.name}-${each.key}"
  description                  = "pixelproof: ${each.key}"
  group_name                   = aws_scheduler_schedule_group.this.name
  schedule_expression          = each.value
  schedule_expression_timezone = var.schedule_timezone

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.this["scheduled"].arn
    role_arn = aws_iam_role.scheduler.arn
    input    = jsonencode({ task = each.key })

    # The next call is due anyway: an old one is not worth repeating for long.
    retry_policy {
      maximum_event_age_in_seconds = 900
      maximum_retry_attempts       = 3
    }

    dead_letter_config {
      arn = aws_sqs_queue.dead["tasks"].arn
    }
  }
}

# The scheduler calls and does not wait: what the function then fails to do comes here.
resource "aws_lambda_function_event_invoke_config" "scheduled" {
  function_name                = aws_lambda_function.this["scheduled"].function_name
  maximum_event_age_in_seconds = 900
  maximum_retry_attempts       = 2

  destination_config {
    on_failure {
      destination = aws_sqs_queue.dead["tasks"].arn
    }
  }

  # Lambda tries whether the function may write there.
  depends_on = [aws_iam_role_policy.function]
}
