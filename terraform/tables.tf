# The tables are those of core/stores/dynamodb/table.py; a test compares both.

locals {
  tables = {
    ledger = {
      indexes = {}
      ttl     = null
      stream  = "NEW_IMAGE"
      key     = var.kms_key_arn
    }
    state = {
      indexes = {
        pending = { hash = "pending", range = "at", projection = "KEYS_ONLY", included = null }
        segment = { hash = "segment", range = "recipient", projection = "KEYS_ONLY", included = null }
      }
      ttl    = "expires"
      stream = null
      key    = var.kms_key_arn
    }
    # Apart, so that its access and its key can be.
    addresses = {
      indexes = {}
      ttl     = "expires"
      stream  = null
      key     = local.addresses_kms_key_arn == "none" ? null : local.addresses_kms_key_arn
    }
  }
}

resource "aws_dynamodb_table" "this" {
  # checkov:skip=CKV_AWS_119: the key is an input, kms_key_arn; without it the table is encrypted with AWS's own
  for_each = local.tables

  name                        = "${var.name}-${each.key}"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  range_key                   = "sk"
  deletion_protection_enabled = var.deletion_protection
  stream_enabled              = each.value.stream != null
  stream_view_type            = each.value.stream
  tags                        = local.tags

  dynamic "attribute" {
    for_each = toset(concat(["pk", "sk"], flatten([for index in values(each.value.indexes) : [index.hash, index.range]])))

    content {
      name = attribute.value
      type = "S"
    }
  }

  dynamic "global_secondary_index" {
    for_each = each.value.indexes

    content {
      name               = global_secondary_index.key
      hash_key           = global_secondary_index.value.hash
      range_key          = global_secondary_index.value.range
      projection_type    = global_secondary_index.value.projection
      non_key_attributes = global_secondary_index.value.included
    }
  }

  dynamic "ttl" {
    for_each = each.value.ttl[*]

    content {
      attribute_name = ttl.value
      enabled        = true
    }
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = each.value.key
  }
}

# No identity of this account, an administrator included, can alter an entry without changing this policy first, which
# leaves a trace in CloudTrail.
resource "aws_dynamodb_resource_policy" "ledger" {
  count = var.ledger_table_policy ? 1 : 0

  resource_arn = aws_dynamodb_table.this["ledger"].arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "NobodyAlters"
      Effect    = "Deny"
      Principal = "*"
      Action    = local.altering
      Resource  = local.table_arns.ledger
    }]
  })
}
