#!/usr/bin/env sh
# Uses every credential of the catalogue and says which work; all options are those of
# `secret-operator validate`, such as
#   ./scripts/validate-secrets.sh --environment production
# SECRET_OPERATOR names the program, SECRET_OPERATOR_CONFIG its configuration.
exec "${SECRET_OPERATOR:-secret-operator}" validate "$@"
