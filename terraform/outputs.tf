output "url" {
  description = "Where recipients and ESPs reach the application: `base_url` of the settings."
  value       = local.url
}

output "webhook_url" {
  description = "What an ESP's webhook is set to, followed by the ESP's name: `pixelproof webhooks install` does so."
  value       = "${local.url}/webhooks/"
}

output "domain_target" {
  description = "What the domain's DNS record (an alias, or a CNAME) must point to, and its hosted zone; null without a domain."
  value = var.domain == null ? null : {
    name    = aws_apigatewayv2_domain_name.this[0].domain_name_configuration[0].target_domain_name
    zone_id = aws_apigatewayv2_domain_name.this[0].domain_name_configuration[0].hosted_zone_id
  }
}

output "secrets_arn" {
  description = "The secret that the functions read: a JSON object, a member for each variable."
  value       = local.secrets_arn
}

output "settings_location" {
  description = "Where the functions read the settings: what `PIXELPROOF_CONFIG` is set to."
  value       = local.settings_location
}

output "name" {
  description = "The prefix of the tables: `tables` in `[store]` of the settings."
  value       = var.name
}

output "tables" {
  description = "The names of the tables, by what they hold: `ledger`, `state`, `addresses`."
  value       = { for name, table in aws_dynamodb_table.this : name => table.name }
}

output "ledger_stream_arn" {
  description = "The stream of new entries of the ledger."
  value       = aws_dynamodb_table.this["ledger"].stream_arn
}

output "buckets" {
  description = "The names of the buckets: `store` (log, snapshots, findings; locked; `bucket` in `[store]` of the settings) and `inbox` (partners' files under `proofs/`)."
  value       = { for name, bucket in aws_s3_bucket.this : name => bucket.id }
}

output "queues" {
  description = "The URLs of the queues: `callbacks`, `work`, `proofs`, and `ses` where SES is used."
  value       = { for name, queue in aws_sqs_queue.this : name => queue.id }
}

output "dead_letter_queues" {
  description = "The URLs of the queues of dead letters: one for each queue, `stream` and `tasks`."
  value       = { for name, queue in aws_sqs_queue.dead : name => queue.id }
}

output "functions" {
  description = "The names of the functions: `http`, `worker`, `scheduled`, `stream`, `proofs`."
  value       = { for name, function in aws_lambda_function.this : name => function.function_name }
}

output "roles" {
  description = "The ARNs of the functions' roles, for the policy of a KMS key or of a bucket of the team's own."
  value       = { for name, role in aws_iam_role.function : name => role.arn }
}

output "log_groups" {
  description = "The log groups: one for each function, and `access`."
  value = merge(
    { for name, group in aws_cloudwatch_log_group.function : name => group.name },
    { access = aws_cloudwatch_log_group.access.name },
  )
}

output "events_topic_arn" {
  description = "The topic that SES's configuration sets publish to: one of `topic_arns` of the settings; null without SES."
  value       = one(aws_sns_topic.events[*].arn)
}

output "import_bucket" {
  description = "`import_bucket` of the settings; null without SES."
  value       = var.ses == null ? null : aws_s3_bucket.this["inbox"].id
}

output "alarm_topic_arn" {
  description = "The topic that alarms tell, when it was made here; null when `alarm_actions` names others."
  value       = one(aws_sns_topic.alarms[*].arn)
}

output "alarms" {
  description = "The names of all alarms."
  value       = sort(concat([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name], [aws_cloudwatch_metric_alarm.schedule_silence.alarm_name]))
}
