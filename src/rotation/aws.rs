//! AWS: how its clients are made, what its errors mean, and whose key a pair is.
//!
//! Nothing that AWS sent goes into a [`Fault`], except error codes that are known here.

use std::sync::Arc;

use aws_sdk_iam::{
    config::{
        BehaviorVersion, Credentials, Region, SharedCredentialsProvider, SharedHttpClient,
        http::HttpResponse, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_types::SdkConfig;

use super::ports::{Login, TargetError};
use crate::{
    config::operator::targets::aws::Aws as Settings,
    domain::{
        fault::{Fault, Reason},
        secret::Fields,
    },
};

/// The field of an access key's id.
pub(super) const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
/// The field of an access key's secret.
pub(super) const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// The names under which sources keep the parts of a login: as variables, as Vault's engine `aws`
/// answers, and as a name and a password.
const KEY_IDS: [&str; 3] = [KEY_ID, "access_key", "username"];
const SECRET_KEYS: [&str; 3] = [SECRET_KEY, "secret_key", "password"];
const SESSION_TOKENS: [&str; 3] = ["AWS_SESSION_TOKEN", "security_token", "session_token"];

/// Where AWS is.
pub(super) struct Aws {
    settings: Settings,
    http: SharedHttpClient,
}

impl Aws {
    pub(super) fn new(settings: Settings) -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
            .build_https();
        Self { settings, http }
    }

    /// A configuration for clients that log in with a credential of this process.
    pub(super) fn with(&self, credentials: Credentials) -> SdkConfig {
        let timeout = self.settings.timeout;
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(self.http.clone())
            .region(Region::new(self.settings.region.clone()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(timeout)
                    .operation_timeout(timeout)
                    .build(),
            )
            .credentials_provider(SharedCredentialsProvider::new(credentials));
        config.set_endpoint_url(self.settings.endpoint.clone());
        config.build()
    }

    /// The same for the operator's own login.
    pub(super) async fn login(&self, login: &Arc<dyn Login>) -> Result<SdkConfig, Fault> {
        let fields = login.fields().await?;
        let credentials = credentials(&fields).ok_or_else(|| {
            Fault::new(
                Reason::Invalid,
                "the operator's login at AWS has no access key: expected username and password, \
                 or access_key and secret_key",
            )
        })?;
        Ok(self.with(credentials))
    }

    /// Whose key a pair is, as its ARN.
    ///
    /// # Errors
    /// [`TargetError::Refused`] when AWS does not accept the pair.
    pub(super) async fn identity(&self, pair: &Fields) -> Result<String, TargetError> {
        let credentials = credentials(pair).ok_or_else(|| {
            TargetError::refused(format!("the value has no fields `{KEY_ID}` and `{SECRET_KEY}`"))
        })?;
        let sts = aws_sdk_sts::Client::new(&self.with(credentials));
        let answer = sts.get_caller_identity().send().await.map_err(|error| {
            let fault = fault("asking STS whose key it is", &error);
            if matches!(fault.reason, Reason::Unauthenticated | Reason::Forbidden) {
                TargetError::refused("AWS does not accept the key pair")
            } else {
                TargetError::Fault(fault)
            }
        })?;
        Ok(answer.arn().unwrap_or_default().to_owned())
    }

    /// Makes sure that a pair is accepted, and is the key of this user.
    ///
    /// # Errors
    /// [`TargetError::Refused`] when it is not.
    pub(super) async fn identify(
        &self,
        pair: &Fields,
        user: Option<&str>,
    ) -> Result<String, TargetError> {
        let arn = self.identity(pair).await?;
        let found = arn.rsplit('/').next().unwrap_or_default();
        match user {
            Some(user) if !arn.contains(":user/") || found != user => {
                Err(TargetError::refused(format!("the key pair is not one of the user {user}")))
            }
            Some(user) => Ok(format!("STS knows the key pair as the user {user}")),
            None => Ok("STS knows the key pair".to_owned()),
        }
    }
}

/// The credential in some fields.
fn credentials(fields: &Fields) -> Option<Credentials> {
    let text = |names: [&str; 3]| {
        let field = names.into_iter().find_map(|name| fields.field(name))?;
        std::str::from_utf8(field.expose()).ok().filter(|text| !text.is_empty())
    };
    let (id, secret) = (text(KEY_IDS)?, text(SECRET_KEYS)?);
    let session = text(SESSION_TOKENS).map(str::to_owned);
    Some(Credentials::new(id, secret, session, None, "secret-operator"))
}

/// What a failed call means; `doing` says what was tried.
pub(super) fn fault<E: ProvideErrorMetadata>(
    doing: &str,
    error: &SdkError<E, HttpResponse>,
) -> Fault {
    let (reason, why) = match error {
        SdkError::TimeoutError(_) => (Reason::Timeout, "AWS did not answer in time"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (Reason::Timeout, "AWS did not answer in time")
        }
        SdkError::DispatchFailure(_) => (Reason::Unavailable, "no connection to AWS"),
        SdkError::ServiceError(error) => {
            meaning(error.err().code().unwrap_or_default(), error.raw().status().as_u16())
        }
        SdkError::ResponseError(error) if error.raw().status().as_u16() >= 500 => {
            (Reason::Failed, "AWS failed at this call")
        }
        _ => (Reason::Invalid, "the answer is not one that AWS gives"),
    };
    Fault::new(reason, format!("{doing}: {why}"))
}

fn meaning(code: &str, status: u16) -> (Reason, &'static str) {
    match code {
        "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "AuthFailure"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidAccessKeyId" => (Reason::Unauthenticated, "AWS does not accept the login"),
        "AccessDenied" | "AccessDeniedException" => {
            (Reason::Forbidden, "the login has no right to it")
        }
        "NoSuchEntity" | "NoSuchEntityException" | "NotFoundException" => {
            (Reason::NotFound, "AWS knows nothing of this name")
        }
        "LimitExceeded" | "LimitExceededException" => (Reason::Invalid, "AWS allows no more"),
        "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException" => (Reason::Throttled, "AWS asks to slow down"),
        "DisabledException" | "KMSInvalidStateException" | "KeyUnavailableException" => {
            (Reason::Invalid, "the key can't be used in its state")
        }
        _ if status >= 500 => (Reason::Failed, "AWS failed at this call"),
        _ if status == 403 => (Reason::Forbidden, "AWS forbids it"),
        _ => (Reason::Invalid, "AWS refuses the call"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::SecretValue;

    fn fields(all: &[(&str, &str)]) -> Fields {
        all.iter().map(|(n, v)| ((*n).to_owned(), SecretValue::new(*v))).collect()
    }

    #[test]
    fn logins_are_found_under_the_names_of_their_sources() {
        for all in [
            [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s")],
            [("access_key", "A"), ("secret_key", "s")],
            [("username", "A"), ("password", "s")],
        ] {
            let found = credentials(&fields(&all)).unwrap();
            assert_eq!((found.access_key_id(), found.secret_access_key()), ("A", "s"));
        }
        assert!(credentials(&fields(&[("username", "A")])).is_none());
        assert!(credentials(&fields(&[("username", ""), ("password", "s")])).is_none());
    }

    #[test]
    fn codes_mean_what_aws_means_by_them() {
        for (code, status, reason) in [
            ("InvalidClientTokenId", 403, Reason::Unauthenticated),
            ("AccessDenied", 403, Reason::Forbidden),
            ("NoSuchEntity", 404, Reason::NotFound),
            ("Throttling", 400, Reason::Throttled),
            ("InternalFailure", 500, Reason::Failed),
            ("ServiceUnavailable", 503, Reason::Failed),
            ("ValidationError", 400, Reason::Invalid),
        ] {
            assert_eq!(meaning(code, status).0, reason, "{code}");
        }
    }
}
