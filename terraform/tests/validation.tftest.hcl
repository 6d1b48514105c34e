# Every validation refuses what it is there for.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  app_zip       = "versions.tf"
  bulk_zip      = "versions.tf"
  settings      = "base_url = \"https://choices.example.com\""
  alarm_actions = ["arn:aws:sns:eu-west-3:123456789012:on-call"]
}

run "a_name_in_capitals" {
  command = plan

  variables {
    name = "Team"
  }

  expect_failures = [var.name]
}

run "a_name_that_is_too_long" {
  command = plan

  variables {
    name = "a-name-of-twenty-five-lett"
  }

  expect_failures = [var.name]
}

run "a_zip_that_is_not_there" {
  command = plan

  variables {
    app_zip = "missing.zip"
  }

  expect_failures = [var.app_zip]
}

run "a_large_zip_that_is_not_there" {
  command = plan

  variables {
    bulk_zip = "missing.zip"
  }

  expect_failures = [var.bulk_zip]
}

run "an_unknown_processor" {
  command = plan

  variables {
    architecture = "riscv64"
  }

  expect_failures = [var.architecture]
}

run "a_python_that_lambda_lacks" {
  command = plan

  variables {
    python_version = "3.9"
  }

  expect_failures = [var.python_version]
}

run "settings_that_do_not_fit" {
  command = plan

  variables {
    settings = format("%8193s", "x")
  }

  expect_failures = [var.settings]
}

run "no_settings_at_all" {
  command = plan

  variables {
    settings = null
  }

  expect_failures = [var.settings_location]
}

run "settings_twice" {
  command = plan

  variables {
    settings_location = "/var/task/pixelproof.toml"
  }

  expect_failures = [var.settings_location]
}

run "settings_from_nowhere" {
  command = plan

  variables {
    settings          = null
    settings_location = "https://example.com/pixelproof.toml"
  }

  expect_failures = [var.settings_location]
}

run "secrets_by_wildcard" {
  command = plan

  variables {
    secrets_arn = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:*"
  }

  expect_failures = [var.secrets_arn]
}

run "a_key_by_its_alias" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-west-3:123456789012:alias/team"
  }

  expect_failures = [var.kms_key_arn]
}

run "a_key_for_addresses_by_its_alias" {
  command = plan

  variables {
    addresses_kms_key_arn = "alias/team"
  }

  expect_failures = [var.addresses_kms_key_arn]
}

run "a_lock_of_no_kind" {
  command = plan

  variables {
    object_lock = { mode = "NONE" }
  }

  expect_failures = [var.object_lock]
}

run "a_lock_for_no_day" {
  command = plan

  variables {
    object_lock = { days = 0 }
  }

  expect_failures = [var.object_lock]
}

run "an_inbox_emptied_too_early" {
  command = plan

  variables {
    inbox_days = 7
  }

  expect_failures = [var.inbox_days]
}

run "a_bucket_for_access_logs_by_its_arn" {
  command = plan

  variables {
    access_log_bucket = "arn:aws:s3:::logs"
  }

  expect_failures = [var.access_log_bucket]
}

run "logs_kept_for_ever" {
  command = plan

  variables {
    log_retention_days = 0
  }

  expect_failures = [var.log_retention_days]
}

run "an_unknown_level" {
  command = plan

  variables {
    log_level = "TRACE"
  }

  expect_failures = [var.log_level]
}

run "too_little_memory" {
  command = plan

  variables {
    memory = { http = 128 }
  }

  expect_failures = [var.memory]
}

run "a_longer_answer_than_the_api_waits_for" {
  command = plan

  variables {
    timeout = { http = 30 }
  }

  expect_failures = [var.timeout]
}

run "a_longer_task_than_lambda_runs" {
  command = plan

  variables {
    timeout = { scheduled = 901 }
  }

  expect_failures = [var.timeout]
}

run "one_at_once" {
  command = plan

  variables {
    concurrency = { worker = 1 }
  }

  expect_failures = [var.concurrency]
}

run "an_unknown_task" {
  command = plan

  variables {
    schedules = { sync = "rate(1 hour)", purge = "rate(1 day)", dance = "rate(1 day)" }
  }

  expect_failures = [var.schedules]
}

run "a_schedule_in_words" {
  command = plan

  variables {
    schedules = { sync = "hourly", purge = "rate(1 day)" }
  }

  expect_failures = [var.schedules]
}

run "no_sync" {
  command = plan

  variables {
    schedules = { purge = "rate(1 day)" }
  }

  expect_failures = [var.schedules]
}

run "silence_of_no_hours" {
  command = plan

  variables {
    schedule_silence_hours = 0
  }

  expect_failures = [var.schedule_silence_hours]
}

run "no_configuration_set" {
  command = plan

  variables {
    ses = { configuration_sets = [] }
  }

  expect_failures = [var.ses]
}

run "a_contact_list_with_a_space" {
  command = plan

  variables {
    ses = { contact_list = "the list" }
  }

  expect_failures = [var.ses]
}

run "a_domain_with_its_scheme" {
  command = plan

  variables {
    domain = { name = "https://choices.example.com", certificate_arn = "arn:aws:acm:eu-west-3:123456789012:certificate/11111111-1111-1111-1111-111111111111" }
  }

  expect_failures = [var.domain]
}

run "a_certificate_that_is_none" {
  command = plan

  variables {
    domain = { name = "choices.example.com", certificate_arn = "arn:aws:iam::123456789012:server-certificate/old" }
  }

  expect_failures = [var.domain]
}

run "no_request_at_all" {
  command = plan

  variables {
    throttling = { rate = 0 }
  }

  expect_failures = [var.throttling]
}

run "alarms_to_what_is_no_topic" {
  command = plan

  variables {
    alarm_actions = ["arn:aws:lambda:eu-west-3:123456789012:function:pager"]
  }

  expect_failures = [var.alarm_actions]
}

run "an_address_that_is_none" {
  command = plan

  variables {
    alarm_actions = []
    alarm_email   = "on-call"
  }

  expect_failures = [var.alarm_email]
}

run "an_address_beside_topics" {
  command = plan

  variables {
    alarm_email = "on-call@example.com"
  }

  expect_failures = [var.alarm_email]
}

run "messages_that_may_wait_for_ever" {
  command = plan

  variables {
    oldest_message_minutes = 100000
  }

  expect_failures = [var.oldest_message_minutes]
}

run "a_signature_that_is_none" {
  command = plan

  variables {
    code_signing_config_arn = "team"
  }

  expect_failures = [var.code_signing_config_arn]
}

run "a_boundary_that_is_none" {
  command = plan

  variables {
    permissions_boundary_arn = "boundary"
  }

  expect_failures = [var.permissions_boundary_arn]
}
