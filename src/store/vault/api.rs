//! Plain calls of Vault's API, for targets that are Vault's own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::Method;
use serde_json::Value;

use super::{VaultStore, client::Call, fault::Doing, session::Session};
use crate::{
    domain::fault::Fault,
    rotation::ports::{ApiAnswer, ApiMethod, VaultApi},
};

#[async_trait]
impl VaultApi for VaultStore {
    async fn call(
        &self,
        method: ApiMethod,
        path: &str,
        body: Option<Value>,
    ) -> Result<ApiAnswer, Fault> {
        let (method, operation) = match method {
            ApiMethod::Get => (Method::GET, "api_read"),
            ApiMethod::Post => (Method::POST, "api_write"),
        };
        let call = |session: Arc<Session>| {
            let (method, body) = (method.clone(), body.clone());
            async move {
                let call = Call { operation, method, path, query: &[], body, doing: Doing::Read };
                self.client.call(&session.token, call).await
            }
        };
        let located =
            |fault: Fault| if fault.reason.is_store_wide() { fault } else { fault.at(path) };
        let (envelope, _) = self.with_session(Duration::ZERO, call).await.map_err(located)?;
        let lease = (!envelope.lease_id.is_empty()).then(|| Arc::from(envelope.lease_id));
        Ok(ApiAnswer { data: envelope.data.unwrap_or_default(), lease })
    }
}
