# What sidecars of this role read, and nothing else.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "database/creds/shop-main" { capabilities = ["read"] }
path "secret/data/shop/api-key" { capabilities = ["read"] }
path "secret/data/shop/aws" { capabilities = ["read"] }
path "secret/data/shop/aws-kms" { capabilities = ["read"] }
path "secret/data/shop/jwt" { capabilities = ["read"] }
path "secret/data/shop/postgres" { capabilities = ["read"] }
path "secret/data/shop/postgres-replica" { capabilities = ["read"] }
path "secret/data/shop/redis" { capabilities = ["read"] }
path "sys/leases/renew" {
  capabilities = ["update"]
  allowed_parameters = {
    "lease_id" = ["database/creds/shop-main/*"]
  }
}
path "sys/leases/revoke" {
  capabilities = ["update"]
  allowed_parameters = {
    "lease_id" = ["database/creds/shop-main/*"]
  }
}
