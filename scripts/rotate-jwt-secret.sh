#!/usr/bin/env sh
# Rotates the secret that signs tokens; all options are those of `secret-operator rotate`, such as
#   ./scripts/rotate-jwt-secret.sh --environment production --validate
# SECRET_OPERATOR names the program, SECRET_OPERATOR_CONFIG its configuration.
exec "${SECRET_OPERATOR:-secret-operator}" rotate JWT_SECRET "$@"
