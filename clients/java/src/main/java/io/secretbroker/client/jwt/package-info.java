/** Tokens signed with a secret that rotates. It needs com.nimbusds:nimbus-jose-jwt. */
package io.secretbroker.client.jwt;
