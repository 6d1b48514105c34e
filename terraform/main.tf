data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  # `name` is what both 5.x and 6.x know; 6.x warns that it will be `region` one day.
  region = data.aws_region.current.name

  tags = merge(var.tags, { application = "pixelproof", deployment = var.name })

  addresses_kms_key_arn = coalesce(var.addresses_kms_key_arn, var.kms_key_arn, "none")

  # ARNs are put together from names: a policy can then be read in the plan, and no resource waits for another.
  table_arns = {
    for name in keys(local.tables) :
    name => "arn:${local.partition}:dynamodb:${local.region}:${local.account}:table/${var.name}-${name}"
  }
  queue_arns = {
    for name in concat(keys(local.queues), [for name in local.dead_letter_queues : "${name}-dead"]) :
    name => "arn:${local.partition}:sqs:${local.region}:${local.account}:${var.name}-${name}"
  }
  function_arns = {
    for name in keys(local.functions) :
    name => "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${var.name}-${name}"
  }
  role_arns = {
    for name in keys(local.functions) :
    name => "arn:${local.partition}:iam::${local.account}:role/${var.name}-${name}"
  }
  bucket_names = {
    for name in ["store", "inbox"] : name => "${var.name}-${name}-${local.account}"
  }
  bucket_arns = {
    for name, bucket in local.bucket_names : name => "arn:${local.partition}:s3:::${bucket}"
  }
  events_topic_arn = "arn:${local.partition}:sns:${local.region}:${local.account}:${var.name}-ses-events"
}
