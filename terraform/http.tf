# An HTTP API and no function URL: behind CloudFront a function URL makes clients sign the body, which ESPs cannot.

locals {
  # Kinds of paths, so that access logs and metrics tell them apart without naming a path: a choices link or a pixel's
  # path is somebody's.
  routes = {
    callbacks = "ANY /webhooks/{proxy+}"
    choices   = "ANY /c/{proxy+}"
    opens     = "GET /o/{proxy+}"
    aggregate = "GET /a/{proxy+}"
    api       = "ANY /v1/{proxy+}"
    rest      = "$default"
  }

  url = var.domain == null ? aws_apigatewayv2_api.this.api_endpoint : "https://${var.domain.name}"
}

resource "aws_apigatewayv2_api" "this" {
  name                         = var.name
  description                  = "pixelproof"
  protocol_type                = "HTTP"
  disable_execute_api_endpoint = var.domain != null
  tags                         = local.tags
}

resource "aws_apigatewayv2_integration" "http" {
  api_id                 = aws_apigatewayv2_api.this.id
  integration_type       = "AWS_PROXY"
  integration_method     = "POST"
  integration_uri        = aws_lambda_function.this["http"].invoke_arn
  payload_format_version = "2.0"
  timeout_milliseconds   = min(30000, 1000 * (var.timeout.http + 1))
}

resource "aws_apigatewayv2_route" "this" {
  # tf-nag:skip=AwsSolutions-APIG4: as for checkov
  # checkov:skip=CKV_AWS_309: recipients and ESPs have no identity of AWS; the application checks links, signatures and API keys itself
  for_each = local.routes

  api_id             = aws_apigatewayv2_api.this.id
  route_key          = each.value
  target             = "integrations/${aws_apigatewayv2_integration.http.id}"
  authorization_type = "NONE"
}

resource "aws_apigatewayv2_stage" "this" {
  api_id      = aws_apigatewayv2_api.this.id
  name        = "$default"
  auto_deploy = true
  tags        = local.tags

  default_route_settings {
    detailed_metrics_enabled = true
    throttling_rate_limit    = var.throttling.rate
    throttling_burst_limit   = var.throttling.burst
  }

  # No path, no address of a client, no user agent: the path alone can name a person.
  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.access.arn
    format = jsonencode({
      at         = "$context.requestTime"
      request    = "$context.requestId"
      route      = "$context.routeKey"
      status     = "$context.status"
      bytes      = "$context.responseLength"
      latency_ms = "$context.responseLatency"
      function   = "$context.integrationStatus"
      error      = "$context.error.responseType"
    })
  }
}

resource "aws_cloudwatch_log_group" "access" {
  # checkov:skip=CKV_AWS_158: the key is an input, kms_key_arn; without it logs are encrypted with AWS's own
  # checkov:skip=CKV_AWS_338: how long logs are kept is an input, log_retention_days
  name              = "/aws/apigateway/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = local.tags
}

resource "aws_lambda_permission" "http" {
  statement_id  = "HttpApi"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.this["http"].function_name
  principal     = "apigateway.amazonaws.com"
  # Every method and path of this one API: the routes are not known by name to Lambda.
  source_arn = "${aws_apigatewayv2_api.this.execution_arn}/*"
}

resource "aws_apigatewayv2_domain_name" "this" {
  count = var.domain == null ? 0 : 1

  domain_name = var.domain.name
  tags        = local.tags

  domain_name_configuration {
    certificate_arn = var.domain.certificate_arn
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }
}

resource "aws_apigatewayv2_api_mapping" "this" {
  count = var.domain == null ? 0 : 1

  api_id      = aws_apigatewayv2_api.this.id
  domain_name = aws_apigatewayv2_domain_name.this[0].id
  stage       = aws_apigatewayv2_stage.this.id
}
