# New entries of the ledger, a second after they were written: withdrawals go to the ESPs. What fails for good here is
# carried out by the next sync.

resource "aws_lambda_event_source_mapping" "stream" {
  event_source_arn                   = aws_dynamodb_table.this["ledger"].stream_arn
  function_name                      = aws_lambda_function.this["stream"].arn
  starting_position                  = "TRIM_HORIZON"
  batch_size                         = 100
  maximum_batching_window_in_seconds = 1
  parallelization_factor             = 1
  bisect_batch_on_function_error     = true
  maximum_retry_attempts             = 20
  maximum_record_age_in_seconds      = 43200
  function_response_types            = ["ReportBatchItemFailures"]
  tags                               = local.tags

  destination_config {
    on_failure {
      destination_arn = aws_sqs_queue.dead["stream"].arn
    }
  }

  # The notary writes chunks of the log into the same table: they must not call it again.
  filter_criteria {
    filter {
      pattern = jsonencode({
        eventName = ["INSERT"]
        dynamodb  = { Keys = { pk = { S = [{ prefix = "chain#" }] } } }
      })
    }
  }

  depends_on = [aws_iam_role_policy.function]
}
