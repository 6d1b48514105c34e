# Who may do what, as it stands in the plan.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  app_zip       = "versions.tf"
  bulk_zip      = "versions.tf"
  settings      = "base_url = \"https://choices.example.com\""
  secrets_arn   = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:pixelproof-AbCdEf"
  alarm_actions = ["arn:aws:sns:eu-west-3:123456789012:on-call"]
  ses           = {}
}

run "nobody_alters_the_ledger" {
  command = plan

  assert {
    condition = alltrue([
      for role in aws_iam_role_policy.function : anytrue([
        for each in jsondecode(role.policy).Statement :
        each.Effect == "Deny" && each.Resource == ["arn:aws:dynamodb:eu-west-3:123456789012:table/pixelproof-ledger"] &&
        length(setsubtract(["dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem", "dynamodb:PartiQLUpdate", "dynamodb:PartiQLDelete", "dynamodb:PartiQLInsert"], each.Action)) == 0
      ])
    ]) && length(aws_iam_role_policy.function) == 5
    error_message = "Every role is denied to alter the ledger."
  }

  assert {
    condition = alltrue(flatten([
      for role in aws_iam_role_policy.function : [
        for each in jsondecode(role.policy).Statement :
        length(setsubtract(each.Action, ["dynamodb:BatchGetItem", "dynamodb:ConditionCheckItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"])) == 0
        if each.Effect == "Allow" && contains(each.Resource, "arn:aws:dynamodb:eu-west-3:123456789012:table/pixelproof-ledger")
      ]
    ]))
    error_message = "Roles read and add to the ledger, and nothing else."
  }
}

run "wildcards_are_counted" {
  command = plan

  assert {
    condition     = alltrue(flatten([for role in aws_iam_role_policy.function : [for each in jsondecode(role.policy).Statement : [for action in each.Action : !strcontains(action, "*")]]]))
    error_message = "No action is a wildcard."
  }

  assert {
    condition = toset(flatten([
      for role in aws_iam_role_policy.function : [for each in jsondecode(role.policy).Statement : each.Sid if contains(each.Resource, "*")]
    ])) == toset(["SesImports"])
    error_message = "Only where AWS knows no narrower resource is it a wildcard."
  }

  assert {
    condition = length(setsubtract(flatten([
      for role in aws_iam_role_policy.function : [for each in jsondecode(role.policy).Statement : each.Sid if length([for resource in each.Resource : resource if strcontains(resource, "*")]) > 0]
    ]), ["Inbox", "Log", "ReadLog", "ReadStream", "SesImportFiles", "SesImports", "Store"])) == 0
    error_message = "Only names that are made up as they come are wildcards."
  }

  assert {
    condition     = alltrue(flatten([for role in aws_iam_role_policy.function : [for each in jsondecode(role.policy).Statement : [for resource in each.Resource : resource == "*" || startswith(resource, "arn:aws:")]]]))
    error_message = "Resources are ARNs."
  }
}

run "each_function_has_its_part" {
  command = plan

  assert {
    condition = jsonencode({
      for name, role in aws_iam_role_policy.function : name => sort(flatten([
        for each in jsondecode(role.policy).Statement : [for arn in each.Resource : trimprefix(arn, "arn:aws:sqs:eu-west-3:123456789012:pixelproof-")] if each.Sid == "SendToQueues"
      ]))
      }) == jsonencode({
      http      = ["callbacks"]
      worker    = []
      scheduled = ["tasks-dead", "work"]
      stream    = ["stream-dead"]
      proofs    = []
    })
    error_message = "Each function writes into these queues alone."
  }

  assert {
    condition = jsonencode({
      for name, role in aws_iam_role_policy.function : name => sort(flatten([
        for each in jsondecode(role.policy).Statement : [for arn in each.Resource : trimprefix(arn, "arn:aws:sqs:eu-west-3:123456789012:pixelproof-")] if each.Sid == "TakeFromQueues"
      ]))
      }) == jsonencode({
      http      = []
      worker    = ["callbacks", "ses"]
      scheduled = ["work"]
      stream    = []
      proofs    = ["proofs"]
    })
    error_message = "Each function takes from these queues alone."
  }

  assert {
    condition = toset([
      for name, role in aws_iam_role_policy.function : name if anytrue([
        for each in jsondecode(role.policy).Statement : each.Sid == "Addresses" && contains(each.Action, "dynamodb:DeleteItem")
      ])
    ]) == toset(["scheduled", "worker"])
    error_message = "Only tasks, and what keeps callbacks that nobody understands, delete from the table of addresses."
  }

  assert {
    condition = toset([
      for name, role in aws_iam_role_policy.function : name if anytrue([
        for each in jsondecode(role.policy).Statement : each.Sid == "Addresses" && contains(each.Action, "dynamodb:PutItem")
      ])
    ]) == toset(["http", "scheduled", "worker"])
    error_message = "Reconciliation and the stream only read addresses."
  }

  assert {
    condition     = toset([for name, role in aws_iam_role_policy.function : name if strcontains(role.policy, "\"Store\"")]) == toset(["proofs", "scheduled", "stream"])
    error_message = "Neither the functions that anybody can reach nor the one behind them write into the store."
  }

  assert {
    condition     = !anytrue([for role in aws_iam_role_policy.function : strcontains(role.policy, "s3:BypassGovernanceRetention") || strcontains(role.policy, "s3:PutObjectRetention")])
    error_message = "No function lifts a lock."
  }
}

run "roles_are_assumed_by_their_service" {
  command = plan

  assert {
    condition     = alltrue([for role in aws_iam_role.function : jsondecode(role.assume_role_policy).Statement[0].Principal.Service == "lambda.amazonaws.com"])
    error_message = "Lambda alone takes the functions' roles."
  }

  assert {
    condition     = jsondecode(aws_iam_role.scheduler.assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012" && length(jsondecode(aws_iam_role_policy.scheduler.policy).Statement[0].Resource) == 1
    error_message = "The scheduler calls one function, for this account."
  }
}
