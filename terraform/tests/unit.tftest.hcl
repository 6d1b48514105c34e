# What matters, as it stands in the plan. No AWS is needed: the provider is mocked.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  # Any file does: nothing is deployed.
  app_zip       = "versions.tf"
  bulk_zip      = "outputs.tf"
  settings      = "base_url = \"https://choices.example.com\""
  secrets_arn   = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:pixelproof-AbCdEf"
  alarm_actions = ["arn:aws:sns:eu-west-3:123456789012:on-call"]
  ses           = {}
}

# Each queue with an ARN of its own, so that one cannot stand for another.
override_resource {
  target = aws_sqs_queue.this["callbacks"]
  values = { arn = "arn:aws:sqs:eu-west-3:123456789012:pixelproof-callbacks" }
}

override_resource {
  target = aws_sqs_queue.this["work"]
  values = { arn = "arn:aws:sqs:eu-west-3:123456789012:pixelproof-work" }
}

override_resource {
  target = aws_sqs_queue.this["proofs"]
  values = { arn = "arn:aws:sqs:eu-west-3:123456789012:pixelproof-proofs" }
}

override_resource {
  target = aws_sqs_queue.this["ses"]
  values = { arn = "arn:aws:sqs:eu-west-3:123456789012:pixelproof-ses" }
}

override_resource {
  target = aws_sqs_queue.dead["callbacks"]
  values = { arn = "arn:aws:sqs:eu-west-3:123456789012:pixelproof-callbacks-dead" }
}

override_resource {
  target = aws_sqs_queue.dead["work"]
  values = { arn = "arn:aws:sqs:eu-west-3:123456789012:pixelproof-work-dead" }
}

override_resource {
  target = aws_sqs_queue.dead["proofs"]
  values = { arn = "arn:aws:sqs:eu-west-3:123456789012:pixelproof-proofs-dead" }
}

override_resource {
  target = aws_sqs_queue.dead["ses"]
  values = { arn = "arn:aws:sqs:eu-west-3:123456789012:pixelproof-ses-dead" }
}

override_resource {
  target = aws_sqs_queue.dead["stream"]
  values = { arn = "arn:aws:sqs:eu-west-3:123456789012:pixelproof-stream-dead" }
}

override_resource {
  target = aws_sqs_queue.dead["tasks"]
  values = { arn = "arn:aws:sqs:eu-west-3:123456789012:pixelproof-tasks-dead" }
}

run "tables_are_protected" {
  command = plan

  assert {
    condition     = length(aws_dynamodb_table.this) == 3 && alltrue([for table in aws_dynamodb_table.this : table.deletion_protection_enabled])
    error_message = "Every table refuses to be deleted."
  }

  assert {
    condition     = alltrue([for table in aws_dynamodb_table.this : table.point_in_time_recovery[0].enabled])
    error_message = "Every table can be put back to any second."
  }

  assert {
    condition     = alltrue([for table in aws_dynamodb_table.this : table.server_side_encryption[0].enabled])
    error_message = "Every table is encrypted."
  }

  assert {
    condition     = alltrue([for table in aws_dynamodb_table.this : table.billing_mode == "PAY_PER_REQUEST"])
    error_message = "Every table is paid by request."
  }

  assert {
    condition     = aws_dynamodb_table.this["ledger"].stream_view_type == "NEW_IMAGE"
    error_message = "The stream of the ledger holds new entries."
  }

  assert {
    condition     = jsondecode(aws_dynamodb_resource_policy.ledger[0].policy).Statement[0].Effect == "Deny" && jsondecode(aws_dynamodb_resource_policy.ledger[0].policy).Statement[0].Principal == "*" && length(setsubtract(["dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem", "dynamodb:PartiQLUpdate", "dynamodb:PartiQLDelete", "dynamodb:PartiQLInsert"], jsondecode(aws_dynamodb_resource_policy.ledger[0].policy).Statement[0].Action)) == 0
    error_message = "The ledger's table refuses updates and deletions to everybody."
  }
}

run "keys_are_used" {
  command = plan

  variables {
    kms_key_arn           = "arn:aws:kms:eu-west-3:123456789012:key/11111111-1111-1111-1111-111111111111"
    addresses_kms_key_arn = "arn:aws:kms:eu-west-3:123456789012:key/22222222-2222-2222-2222-222222222222"
  }

  assert {
    condition     = aws_dynamodb_table.this["ledger"].server_side_encryption[0].kms_key_arn == var.kms_key_arn && aws_dynamodb_table.this["state"].server_side_encryption[0].kms_key_arn == var.kms_key_arn
    error_message = "Ledger and state are encrypted with the key."
  }

  assert {
    condition     = aws_dynamodb_table.this["addresses"].server_side_encryption[0].kms_key_arn == var.addresses_kms_key_arn
    error_message = "Addresses have a key of their own."
  }

  assert {
    condition = alltrue(concat(
      [for queue in aws_sqs_queue.this : queue.kms_master_key_id == var.kms_key_arn],
      [for queue in aws_sqs_queue.dead : queue.kms_master_key_id == var.kms_key_arn],
      [for group in aws_cloudwatch_log_group.function : group.kms_key_id == var.kms_key_arn],
      [for function in aws_lambda_function.this : function.kms_key_arn == var.kms_key_arn],
      [for each in aws_s3_bucket_server_side_encryption_configuration.this : one(one(each.rule).apply_server_side_encryption_by_default).kms_master_key_id == var.kms_key_arn],
      [aws_sns_topic.events[0].kms_master_key_id == var.kms_key_arn, aws_cloudwatch_log_group.access.kms_key_id == var.kms_key_arn],
    ))
    error_message = "Queues, buckets, logs, topics and functions are encrypted with the key."
  }

  assert {
    condition = alltrue([
      for role in aws_iam_role_policy.function : anytrue([
        for each in jsondecode(role.policy).Statement : each.Sid == "Keys" && toset(each.Resource) == toset([var.kms_key_arn, var.addresses_kms_key_arn])
      ])
    ])
    error_message = "The functions may use both keys."
  }
}

run "queues_lose_nothing" {
  command = plan

  assert {
    condition     = keys(aws_sqs_queue.this) == ["callbacks", "proofs", "ses", "work"]
    error_message = "There are these queues."
  }

  assert {
    condition     = alltrue([for name, queue in aws_sqs_queue.this : queue.visibility_timeout_seconds >= 6 * aws_lambda_function.this[local.queues[name].function].timeout])
    error_message = "A queue hides a message for six times as long as its function may take."
  }

  assert {
    condition     = alltrue([for queue in concat(values(aws_sqs_queue.this), values(aws_sqs_queue.dead)) : queue.message_retention_seconds == 1209600])
    error_message = "Messages wait for 14 days."
  }

  assert {
    condition     = alltrue([for queue in concat(values(aws_sqs_queue.this), values(aws_sqs_queue.dead)) : queue.sqs_managed_sse_enabled == true])
    error_message = "Without a key SQS encrypts with its own."
  }

  assert {
    condition     = alltrue([for mapping in aws_lambda_event_source_mapping.queue : tolist(mapping.function_response_types) == tolist(["ReportBatchItemFailures"])])
    error_message = "One bad message does not send back the others."
  }

  assert {
    condition     = alltrue([for mapping in aws_lambda_event_source_mapping.queue : mapping.scaling_config[0].maximum_concurrency >= 2])
    error_message = "A queue calls its function a limited number of times at once."
  }

  assert {
    condition     = alltrue([for name, queue in local.queues : aws_lambda_event_source_mapping.queue[name].scaling_config[0].maximum_concurrency <= aws_lambda_function.this[queue.function].reserved_concurrent_executions])
    error_message = "A queue calls its function no more often than it may run."
  }

  assert {
    condition = alltrue([
      for policy in concat(values(aws_sqs_queue_policy.this), values(aws_sqs_queue_policy.dead)) : anytrue([
        for each in jsondecode(policy.policy).Statement : try(each.Effect == "Deny" && each.Principal == "*" && each.Action == "sqs:*" && each.Condition.Bool["aws:SecureTransport"] == "false", false)
      ])
    ]) && keys(aws_sqs_queue_policy.dead) == keys(aws_sqs_queue.dead) && keys(aws_sqs_queue_policy.this) == keys(aws_sqs_queue.this)
    error_message = "Queues are reached over TLS alone."
  }

  assert {
    condition = alltrue(flatten([
      for policy in aws_sqs_queue_policy.this : [
        for each in jsondecode(policy.policy).Statement : each.Condition.StringEquals["aws:SourceAccount"] == "123456789012" && can(each.Condition.ArnEquals["aws:SourceArn"]) if each.Effect == "Allow"
      ]
    ]))
    error_message = "Services of AWS write for one resource of this account alone."
  }
}

run "dead_letters_come_from_their_queue" {
  # The ARNs of queues are known once they exist.
  command = apply

  assert {
    condition     = alltrue([for name, queue in aws_sqs_queue.this : jsondecode(queue.redrive_policy).deadLetterTargetArn == aws_sqs_queue.dead[name].arn && jsondecode(queue.redrive_policy).maxReceiveCount >= 3])
    error_message = "Every queue has its queue of dead letters."
  }

  assert {
    condition     = alltrue([for name, each in aws_sqs_queue_redrive_allow_policy.this : jsondecode(each.redrive_allow_policy).redrivePermission == "byQueue" && jsondecode(each.redrive_allow_policy).sourceQueueArns == [aws_sqs_queue.this[name].arn]])
    error_message = "A queue of dead letters takes those of one queue."
  }

  assert {
    condition     = one(one(aws_lambda_event_source_mapping.stream.destination_config).on_failure).destination_arn == aws_sqs_queue.dead["stream"].arn
    error_message = "What the stream could not push is told."
  }

  assert {
    condition     = one(one(aws_lambda_function_event_invoke_config.scheduled.destination_config).on_failure).destination == aws_sqs_queue.dead["tasks"].arn && alltrue([for each in aws_scheduler_schedule.task : one(one(each.target).dead_letter_config).arn == aws_sqs_queue.dead["tasks"].arn])
    error_message = "What a task failed to do, or was never called for, is told."
  }
}

run "functions_are_bounded" {
  command = plan

  assert {
    condition     = { for name, function in aws_lambda_function.this : name => function.handler } == { for name in ["http", "worker", "scheduled", "stream", "proofs"] : name => "webhooks.aws.${name}.handler" }
    error_message = "There are five functions with these handlers."
  }

  assert {
    condition     = alltrue([for function in aws_lambda_function.this : tolist(function.architectures) == tolist(["arm64"]) && function.runtime == "python3.13"])
    error_message = "Functions run on arm64 and Python 3.13 unless told otherwise."
  }

  assert {
    condition     = alltrue([for function in aws_lambda_function.this : function.reserved_concurrent_executions > 0])
    error_message = "Concurrency is reserved."
  }

  assert {
    condition     = alltrue([for function in aws_lambda_function.this : function.logging_config[0].log_format == "JSON" && function.logging_config[0].application_log_level == "INFO"])
    error_message = "Logs are JSON, and metrics are not dropped."
  }

  assert {
    condition     = alltrue([for group in aws_cloudwatch_log_group.function : group.retention_in_days == 90]) && aws_cloudwatch_log_group.access.retention_in_days == 90
    error_message = "Logs are kept for a limited time."
  }

  assert {
    condition     = keys(aws_cloudwatch_log_group.function) == keys(aws_lambda_function.this)
    error_message = "Every function has its log group."
  }

  assert {
    condition     = aws_lambda_function.this["proofs"].filename == var.bulk_zip && alltrue([for name, function in aws_lambda_function.this : function.filename == var.app_zip if name != "proofs"])
    error_message = "Reconciliation alone has the large zip."
  }
}

run "the_stream_pushes_entries_alone" {
  command = plan

  assert {
    condition     = tolist(aws_lambda_event_source_mapping.stream.function_response_types) == tolist(["ReportBatchItemFailures"]) && aws_lambda_event_source_mapping.stream.bisect_batch_on_function_error
    error_message = "One entry that cannot be pushed does not hold up the others."
  }

  assert {
    condition     = aws_lambda_event_source_mapping.stream.maximum_retry_attempts > 0 && aws_lambda_event_source_mapping.stream.maximum_record_age_in_seconds < 86400
    error_message = "A push is repeated for less than the day that the stream keeps."
  }

  assert {
    condition     = jsondecode(one(one(aws_lambda_event_source_mapping.stream.filter_criteria).filter).pattern).dynamodb.Keys.pk.S == [{ prefix = "chain#" }]
    error_message = "Chunks of the log do not call the function that writes them."
  }
}

run "buckets_are_locked_and_private" {
  command = plan

  assert {
    condition     = aws_s3_bucket.this["store"].object_lock_enabled && !aws_s3_bucket.this["inbox"].object_lock_enabled
    error_message = "The store is locked; the inbox, which holds addresses, is not."
  }

  assert {
    condition     = aws_s3_bucket_object_lock_configuration.store.rule[0].default_retention[0].mode == "GOVERNANCE" && aws_s3_bucket_object_lock_configuration.store.rule[0].default_retention[0].days == 365
    error_message = "What is put into the store cannot be deleted for a year."
  }

  assert {
    condition     = alltrue([for each in aws_s3_bucket_public_access_block.this : each.block_public_acls && each.block_public_policy && each.ignore_public_acls && each.restrict_public_buckets]) && length(aws_s3_bucket_public_access_block.this) == 2
    error_message = "Buckets are private."
  }

  assert {
    condition     = alltrue([for each in aws_s3_bucket_versioning.this : each.versioning_configuration[0].status == "Enabled"]) && length(aws_s3_bucket_versioning.this) == 2
    error_message = "Buckets keep versions."
  }

  assert {
    condition     = alltrue([for each in aws_s3_bucket_policy.this : jsondecode(each.policy).Statement[0].Effect == "Deny" && jsondecode(each.policy).Statement[0].Condition.Bool["aws:SecureTransport"] == "false"]) && length(aws_s3_bucket_policy.this) == 2
    error_message = "Buckets are reached over TLS alone."
  }

  assert {
    condition     = alltrue([for each in aws_s3_bucket.this : !each.force_destroy])
    error_message = "Buckets that hold anything refuse to be deleted."
  }

  assert {
    condition     = one(one(aws_s3_bucket_lifecycle_configuration.this["inbox"].rule).expiration).days == 30 && length(one(aws_s3_bucket_lifecycle_configuration.this["store"].rule).expiration) == 0
    error_message = "The inbox is emptied; the store is not."
  }

  assert {
    condition     = one(one(aws_s3_bucket_lifecycle_configuration.this["store"].rule).noncurrent_version_expiration).noncurrent_days > var.object_lock.days
    error_message = "What was replaced goes once its lock has ended."
  }

  assert {
    condition     = aws_s3_bucket_notification.inbox.queue[0].filter_prefix == "proofs/"
    error_message = "Partners' files alone are reconciled."
  }
}

run "the_api_logs_no_path" {
  command = plan

  assert {
    condition     = !can(regex("(?i)path|sourceIp|userAgent|identity|authorizer|requestTimeEpoch.*host", aws_apigatewayv2_stage.this.access_log_settings[0].format)) && can(regex("routeKey", aws_apigatewayv2_stage.this.access_log_settings[0].format))
    error_message = "Access logs tell the kind of path and nobody's address."
  }

  assert {
    condition     = aws_apigatewayv2_integration.http.payload_format_version == "2.0" && contains(values(local.routes), "$default")
    error_message = "Every request reaches the function."
  }

  assert {
    condition     = aws_apigatewayv2_stage.this.default_route_settings[0].throttling_rate_limit == 1000
    error_message = "Requests are limited."
  }

  assert {
    condition     = !aws_apigatewayv2_api.this.disable_execute_api_endpoint
    error_message = "Without a domain the API's own address is used."
  }
}

run "a_domain_replaces_the_address" {
  command = plan

  variables {
    domain = {
      name            = "choices.example.com"
      certificate_arn = "arn:aws:acm:eu-west-3:123456789012:certificate/11111111-1111-1111-1111-111111111111"
    }
  }

  assert {
    condition     = aws_apigatewayv2_api.this.disable_execute_api_endpoint && output.url == "https://choices.example.com"
    error_message = "The application has one address."
  }

  assert {
    condition     = aws_apigatewayv2_domain_name.this[0].domain_name_configuration[0].security_policy == "TLS_1_2"
    error_message = "TLS is 1.2 or newer."
  }
}

run "tasks_are_scheduled" {
  command = plan

  assert {
    condition     = { for name, each in aws_scheduler_schedule.task : name => jsondecode(each.target[0].input).task } == { for name in ["sync", "poll", "notarise", "expire", "purge"] : name => name }
    error_message = "Each task is called by its name."
  }

  assert {
    condition     = aws_scheduler_schedule.task["notarise"].schedule_expression == "rate(1 minute)"
    error_message = "The log is signed every minute."
  }
}

run "alarms_tell_somebody" {
  command = plan

  assert {
    condition     = alltrue([for each in concat(values(aws_cloudwatch_metric_alarm.this), [aws_cloudwatch_metric_alarm.schedule_silence]) : each.alarm_actions == toset(var.alarm_actions) && each.ok_actions == toset(var.alarm_actions) && length(each.alarm_description) > 20])
    error_message = "Every alarm tells somebody, and what to do."
  }

  assert {
    condition     = alltrue([for name in keys(aws_sqs_queue.dead) : aws_cloudwatch_metric_alarm.this["dead-letters-${name}"].threshold == 0 && aws_cloudwatch_metric_alarm.this["dead-letters-${name}"].dimensions.QueueName == "pixelproof-${name}-dead"])
    error_message = "One dead letter is told."
  }

  assert {
    condition     = alltrue([for name in keys(aws_sqs_queue.this) : aws_cloudwatch_metric_alarm.this["oldest-${name}"].threshold == 900])
    error_message = "What waits for a quarter of an hour is told."
  }

  assert {
    condition     = alltrue([for name in keys(aws_lambda_function.this) : aws_cloudwatch_metric_alarm.this["errors-${name}"].metric_name == "Errors" && aws_cloudwatch_metric_alarm.this["throttles-${name}"].metric_name == "Throttles"])
    error_message = "Errors and throttles of every function are told."
  }

  assert {
    condition     = length(setsubtract(["http-5xx", "stream-lag", "schedule-dropped", "callbacks-not-understood", "incidents"], keys(aws_cloudwatch_metric_alarm.this))) == 0
    error_message = "These alarms exist."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.schedule_silence.treat_missing_data == "breaching" && aws_cloudwatch_metric_alarm.schedule_silence.comparison_operator == "LessThanThreshold"
    error_message = "Silence is told, too."
  }

  assert {
    condition     = length(aws_sns_topic.alarms) == 0
    error_message = "Where others are named, no topic is made."
  }
}

run "alarms_have_a_topic_of_their_own" {
  command = apply

  variables {
    alarm_actions = []
    alarm_email   = "on-call@example.com"
  }

  assert {
    condition     = alltrue([for each in aws_cloudwatch_metric_alarm.this : each.alarm_actions == toset([aws_sns_topic.alarms[0].arn])]) && aws_sns_topic_subscription.alarms[0].endpoint == "on-call@example.com"
    error_message = "Alarms never go nowhere."
  }
}

run "events_of_ses_come_from_this_account" {
  command = plan

  assert {
    condition = jsondecode(aws_sns_topic_policy.events[0].policy).Statement[0].Condition.StringEquals == {
      "aws:SourceAccount" = "123456789012"
      "aws:SourceArn" = [
        "arn:aws:ses:eu-west-3:123456789012:configuration-set/pixelproof-tracked",
        "arn:aws:ses:eu-west-3:123456789012:configuration-set/pixelproof-untracked",
      ]
    }
    error_message = "SES publishes for this account's configuration sets alone."
  }

  assert {
    condition     = !aws_sns_topic_subscription.events[0].raw_message_delivery && aws_sns_topic.events[0].signature_version == 2
    error_message = "SNS's signature comes along, with SHA-256."
  }
}

run "without_ses_nothing_is_made_for_it" {
  command = plan

  variables {
    ses = null
  }

  assert {
    condition     = length(aws_sns_topic.events) == 0 && !contains(keys(aws_sqs_queue.this), "ses") && length([for role in aws_iam_role_policy.function : role if strcontains(role.policy, "ses:")]) == 0
    error_message = "Whoever does not use SES gives nobody rights there."
  }
}

run "the_secret_is_made_empty" {
  command = plan

  variables {
    secrets_arn = null
  }

  assert {
    condition     = length(aws_secretsmanager_secret.this) == 1 && aws_secretsmanager_secret.this[0].recovery_window_in_days == 30
    error_message = "A secret is made, and can be recovered."
  }
}

run "settings_can_lie_elsewhere" {
  command = plan

  variables {
    settings          = null
    settings_location = "s3://team-settings/pixelproof.toml"
  }

  assert {
    condition     = length(aws_ssm_parameter.settings) == 0 && strcontains(aws_iam_role_policy.function["http"].policy, "arn:aws:s3:::team-settings/pixelproof.toml") && output.settings_location == "s3://team-settings/pixelproof.toml"
    error_message = "The functions read the settings where they are."
  }
}
