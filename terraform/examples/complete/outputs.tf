output "url" {
  description = "Where recipients and ESPs reach the application."
  value       = module.pixelproof.url
}

output "domain_target" {
  description = "What the domain's DNS record must point to."
  value       = module.pixelproof.domain_target
}

output "secrets_arn" {
  description = "The secret to fill by hand."
  value       = module.pixelproof.secrets_arn
}

output "pixelproof" {
  description = "All that the module answers."
  value       = module.pixelproof
}
