# One role a function, and one for the scheduler. No statement names more than what the function's code calls; where an
# ARN ends in a wildcard, a comment says why.

locals {
  reading = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query"]
  adding  = concat(local.reading, ["dynamodb:ConditionCheckItem", "dynamodb:PutItem"])
  working = concat(local.adding, ["dynamodb:UpdateItem"])
  keeping = concat(local.working, ["dynamodb:BatchWriteItem", "dynamodb:DeleteItem"])

  # What could alter or remove an entry of the ledger. BatchWriteItem has no conditions.
  altering = [
    "dynamodb:BatchWriteItem",
    "dynamodb:DeleteItem",
    "dynamodb:PartiQLDelete",
    "dynamodb:PartiQLInsert",
    "dynamodb:PartiQLUpdate",
    "dynamodb:UpdateItem",
  ]

  # Which function may do what. A transaction takes the rights of its parts.
  grants = {
    http = {
      state     = local.working
      addresses = local.working
      sends     = ["callbacks"]
      takes     = []
      inbox     = { "callbacks/" = ["s3:PutObject"] }
      log       = false
      esps      = false
    }
    worker = {
      state = local.working
      # Callbacks that nobody understands are kept there; what a large one left half written is removed.
      addresses = local.keeping
      sends     = []
      takes     = var.ses == null ? ["callbacks"] : ["callbacks", "ses"]
      inbox     = { "callbacks/" = ["s3:GetObject", "s3:DeleteObject"] }
      log       = false
      esps      = false
    }
    scheduled = {
      state     = local.keeping
      addresses = local.keeping
      sends     = ["work", "tasks-dead"]
      takes     = ["work"]
      inbox     = {}
      log       = true
      esps      = true
    }
    stream = {
      state     = local.keeping
      addresses = local.reading
      sends     = ["stream-dead"]
      takes     = []
      inbox     = {}
      log       = true
      esps      = true
    }
    proofs = {
      state     = local.keeping
      addresses = local.reading
      sends     = []
      takes     = ["proofs"]
      inbox     = { "proofs/" = ["s3:GetObject"] }
      log       = true
      esps      = false
    }
  }

  # An import goes through the inbox: SES reads it there, and the connector deletes it.
  imports_arn = "${local.bucket_arns.inbox}/${local.imports_prefix}*"

  contact_list_arn = "arn:${local.partition}:ses:${local.region}:${local.account}:contact-list/${try(var.ses.contact_list, "none")}"

  statements = {
    for name, grant in local.grants : name => concat(
      [
        {
          Sid    = "Log"
          Effect = "Allow"
          Action = ["logs:CreateLogStream", "logs:PutLogEvents"]
          # Lambda makes up the names of the streams.
          Resource = ["arn:${local.partition}:logs:${local.region}:${local.account}:log-group:/aws/lambda/${var.name}-${name}:log-stream:*"]
        },
        {
          Sid      = "Secrets"
          Effect   = "Allow"
          Action   = ["secretsmanager:GetSecretValue"]
          Resource = [local.secrets_arn]
        },
        {
          Sid      = "Ledger"
          Effect   = "Allow"
          Action   = local.adding
          Resource = [local.table_arns.ledger]
        },
        {
          Sid      = "LedgerIsAppendOnly"
          Effect   = "Deny"
          Action   = local.altering
          Resource = [local.table_arns.ledger]
        },
        {
          Sid      = "State"
          Effect   = "Allow"
          Action   = grant.state
          Resource = [local.table_arns.state]
        },
        {
          Sid      = "StateByIndex"
          Effect   = "Allow"
          Action   = ["dynamodb:Query"]
          Resource = [for index in keys(local.tables.state.indexes) : "${local.table_arns.state}/index/${index}"]
        },
        {
          Sid      = "Addresses"
          Effect   = "Allow"
          Action   = grant.addresses
          Resource = [local.table_arns.addresses]
        },
      ],
      local.settings_statements,
      length(grant.sends) == 0 ? [] : [{
        Sid      = "SendToQueues"
        Effect   = "Allow"
        Action   = ["sqs:SendMessage"]
        Resource = [for queue in grant.sends : local.queue_arns[queue]]
      }],
      length(grant.takes) == 0 ? [] : [{
        Sid      = "TakeFromQueues"
        Effect   = "Allow"
        Action   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
        Resource = [for queue in grant.takes : local.queue_arns[queue]]
      }],
      # Keys of objects are made up as they come: the prefix is the narrowest resource.
      [for prefix, actions in grant.inbox : {
        Sid      = "Inbox"
        Effect   = "Allow"
        Action   = actions
        Resource = ["${local.bucket_arns.inbox}/${prefix}*"]
      }],
      !grant.log ? [] : [
        {
          Sid    = "Store"
          Effect = "Allow"
          Action = ["s3:GetObject", "s3:PutObject"]
          # Tiles, checkpoints, snapshots and findings are named by their number, time or digest.
          Resource = ["${local.bucket_arns.store}/*"]
        },
        {
          # Without it S3 answers 403 instead of 404 to whoever asks for what is not there.
          Sid      = "ListStore"
          Effect   = "Allow"
          Action   = ["s3:ListBucket"]
          Resource = [local.bucket_arns.store]
        },
      ],
      name != "http" ? [] : [
        {
          # It shows the log to everybody, and receipts hold proofs from it. Tiles are named by their number.
          Sid      = "ReadLog"
          Effect   = "Allow"
          Action   = ["s3:GetObject"]
          Resource = ["${local.bucket_arns.store}/log/*"]
        },
        {
          # Without it S3 answers 403 instead of 404 for a log that is still to begin.
          Sid      = "ListStore"
          Effect   = "Allow"
          Action   = ["s3:ListBucket"]
          Resource = [local.bucket_arns.store]
        },
      ],
      name != "stream" ? [] : [{
        Sid    = "ReadStream"
        Effect = "Allow"
        Action = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"]
        # The name of a stream is the time at which it was made.
        Resource = ["${local.table_arns.ledger}/stream/*"]
      }],
      var.ses == null || !grant.esps ? [] : local.ses_statements,
      var.ses == null || name != "worker" ? [] : [{
        Sid      = "ConfirmEvents"
        Effect   = "Allow"
        Action   = ["sns:ConfirmSubscription"]
        Resource = [local.events_topic_arn]
      }],
      length(local.kms_keys) == 0 ? [] : [{
        Sid      = "Keys"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"]
        Resource = local.kms_keys
        # The key is used by these services for the function, and by nobody else.
        Condition = {
          StringEquals = {
            "kms:ViaService" = [
              for service in ["dynamodb", "lambda", "s3", "secretsmanager", "sqs"] : "${service}.${local.region}.amazonaws.com"
            ]
          }
        }
      }],
      !var.tracing ? [] : [{
        Sid    = "Traces"
        Effect = "Allow"
        Action = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
        # X-Ray knows no resource for these.
        Resource = ["*"]
      }],
    )
  }

  settings_statements = (
    startswith(local.settings_location, "ssm:") ? [{
      Sid      = "Settings"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter"]
      Resource = ["arn:${local.partition}:ssm:${local.region}:${local.account}:parameter${trimprefix(local.settings_location, "ssm:")}"]
      }] : startswith(local.settings_location, "s3://") ? [{
      Sid      = "Settings"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = ["arn:${local.partition}:s3:::${trimprefix(local.settings_location, "s3://")}"]
    }] : []
  )

  ses_statements = [
    {
      Sid    = "SesContacts"
      Effect = "Allow"
      Action = [
        "ses:CreateContact",
        "ses:CreateContactList",
        "ses:DeleteContact",
        "ses:GetContact",
        "ses:GetContactList",
        "ses:ListContacts",
        "ses:UpdateContact",
        "ses:UpdateContactList",
      ]
      Resource = [local.contact_list_arn]
    },
    {
      Sid    = "SesImports"
      Effect = "Allow"
      Action = ["ses:CreateImportJob", "ses:GetImportJob", "ses:ListImportJobs"]
      # SES makes up the names of import jobs, and asks for no resource when one is made or all are listed.
      Resource = ["*"]
    },
    {
      Sid    = "SesImportFiles"
      Effect = "Allow"
      Action = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
      # Named at random.
      Resource = [local.imports_arn]
    },
  ]

  kms_keys = distinct(compact([var.kms_key_arn, var.addresses_kms_key_arn]))
}

resource "aws_iam_role" "function" {
  # tf-nag:skip=AwsSolutions-IAM5: each wildcard has its reason in local.statements
  for_each = local.functions

  name                 = "${var.name}-${each.key}"
  description          = each.value.description
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "function" {
  # tf-nag:skip=AwsSolutions-IAM5: each wildcard has its reason in local.statements
  for_each = local.functions

  name   = "function"
  role   = aws_iam_role.function[each.key].id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements[each.key] })
}

resource "aws_iam_role" "scheduler" {
  name                 = "${var.name}-scheduler"
  description          = "EventBridge Scheduler calls the tasks"
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      Condition = {
        StringEquals = {
          "aws:SourceAccount" = local.account
          "aws:SourceArn"     = "arn:${local.partition}:scheduler:${local.region}:${local.account}:schedule-group/${var.name}"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "scheduler" {
  name = "scheduler"
  role = aws_iam_role.scheduler.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "CallTasks"
          Effect   = "Allow"
          Action   = ["lambda:InvokeFunction"]
          Resource = [local.function_arns.scheduled]
        },
        {
          Sid      = "DeadLetters"
          Effect   = "Allow"
          Action   = ["sqs:SendMessage"]
          Resource = [local.queue_arns["tasks-dead"]]
        },
      ],
      var.kms_key_arn == null ? [] : [{
        Sid       = "Keys"
        Effect    = "Allow"
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = [var.kms_key_arn]
        Condition = { StringEquals = { "kms:ViaService" = ["sqs.${local.region}.amazonaws.com"] } }
      }],
    )
  })
}
