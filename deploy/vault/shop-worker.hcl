# What sidecars of this role read, and nothing else.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "secret/data/monitoring/datadog" { capabilities = ["read"] }
path "secret/data/shop/redis" { capabilities = ["read"] }
