//! The limits that hold back callers who are let in.

use std::time::Duration;

use futures_util::stream;
use secret_broker_client::{
    Reason,
    proto::{
        GetSecretRequest, GetSecretResponse, WatchSecretsRequest,
        secret_broker_client::SecretBrokerClient,
    },
};

use crate::{rig::Rig, support::until};

#[tokio::test]
async fn watches_beyond_the_limit_are_refused_until_one_of_them_ends() {
    let rig = Rig::with("watches = 2", false).await;
    let caller = rig.caller();
    let client = caller.client();
    // Of the contract itself: the client's own watch would try again by itself.
    let watch = async || {
        let mut raw = SecretBrokerClient::new(client.channel());
        raw.watch_secrets(WatchSecretsRequest::default()).await.map(tonic::Response::into_inner)
    };
    let (one, _two) = (watch().await.unwrap(), watch().await.unwrap());
    let refused = client.explain(&watch().await.unwrap_err());
    assert_eq!(refused.reason(), Some(Reason::LimitExceeded), "{refused}");
    assert!(client.get("KEY").await.is_ok(), "reads go on");
    drop(one);
    until("its place is given to another", async || watch().await.ok()).await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_answered_at_its_deadline() {
    let rig = Rig::with("deadline = \"1s\"", false).await;
    let caller = rig.caller();
    let client = caller.client();
    let mut raw = tonic::client::Grpc::new(client.channel());
    raw.ready().await.unwrap();
    let path = "/secretbroker.v1.SecretBroker/GetSecret".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<GetSecretRequest, GetSecretResponse>::default();
    let endless = tonic::Request::new(stream::pending());
    let call = raw.client_streaming(endless, path, codec);
    let call = tokio::time::timeout(Duration::from_secs(20), call).await.expect("an answer");
    let error = client.explain(&call.unwrap_err());
    assert_eq!(error.reason(), Some(Reason::DeadlineExceeded), "{error}");
    assert!(client.get("KEY").await.is_ok(), "the connection goes on");
}

#[tokio::test]
async fn calls_beyond_the_streams_of_a_connection_wait_for_their_turn() {
    let rig = Rig::with("streams_per_connection = 2", false).await;
    let caller = rig.caller();
    let client = caller.client();
    client.get("KEY").await.expect("a call, after which the caller knows the limit");
    let calls = (0..200).map(|_| client.get("KEY"));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.unwrap().text("value"), Some("first"));
    }
}
