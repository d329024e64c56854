//! The services `secretbroker.v1.SecretOperator` and `RotationFeed` for one caller.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{
    Caller, Operator, OperatorError,
    proto::{self, rotation_feed_server::RotationFeed, secret_operator_server::SecretOperator},
};

/// The services for one caller.
#[derive(Clone)]
pub(super) struct Calls {
    pub(super) operator: Arc<Operator>,
    pub(super) caller: Arc<Caller>,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answered<T> = Result<Response<T>, Status>;

fn answered<T>(result: Result<T, OperatorError>) -> Answered<T> {
    Ok(Response::new(result?))
}

fn streamed<T: 'static>(
    opened: Result<impl Stream<Item = Result<T, OperatorError>> + Send + 'static, OperatorError>,
) -> Answered<Streamed<T>> {
    Ok(Response::new(opened?.map(|item| item.map_err(Status::from)).boxed()))
}

#[tonic::async_trait]
impl SecretOperator for Calls {
    async fn plan(&self, request: Request<proto::PlanRequest>) -> Answered<proto::PlanResponse> {
        answered(self.operator.plan(&self.caller, request.into_inner()).await)
    }

    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Answered<proto::StatusResponse> {
        answered(self.operator.status(&self.caller, request.into_inner()).await)
    }

    async fn history(
        &self,
        request: Request<proto::HistoryRequest>,
    ) -> Answered<proto::HistoryResponse> {
        answered(self.operator.history(&self.caller, request.into_inner()).await)
    }

    async fn rotate(
        &self,
        request: Request<proto::RotateRequest>,
    ) -> Answered<proto::RotateResponse> {
        answered(self.operator.rotate(&self.caller, request.into_inner()).await)
    }

    async fn resume(
        &self,
        request: Request<proto::ResumeRequest>,
    ) -> Answered<proto::ResumeResponse> {
        answered(self.operator.resume(&self.caller, request.into_inner()).await)
    }

    async fn rollback(
        &self,
        request: Request<proto::RollbackRequest>,
    ) -> Answered<proto::RollbackResponse> {
        answered(self.operator.rollback(&self.caller, request.into_inner()).await)
    }

    async fn compromise(
        &self,
        request: Request<proto::CompromiseRequest>,
    ) -> Answered<proto::CompromiseResponse> {
        answered(self.operator.compromise(&self.caller, request.into_inner()).await)
    }

    type FollowRotationStream = Streamed<proto::FollowRotationResponse>;

    async fn follow_rotation(
        &self,
        request: Request<proto::FollowRotationRequest>,
    ) -> Answered<Self::FollowRotationStream> {
        streamed(self.operator.follow(&self.caller, request.into_inner()).await)
    }

    async fn validate(
        &self,
        request: Request<proto::ValidateRequest>,
    ) -> Answered<proto::ValidateResponse> {
        answered(self.operator.validate(&self.caller, request.into_inner()).await)
    }

    async fn supply(
        &self,
        request: Request<proto::SupplyRequest>,
    ) -> Answered<proto::SupplyResponse> {
        answered(self.operator.supply(&self.caller, request.into_inner()).await)
    }

    async fn approve(
        &self,
        request: Request<proto::ApproveRequest>,
    ) -> Answered<proto::ApproveResponse> {
        answered(self.operator.approve(&self.caller, request.into_inner()).await)
    }

    async fn break_glass(
        &self,
        request: Request<proto::BreakGlassRequest>,
    ) -> Answered<proto::BreakGlassResponse> {
        answered(self.operator.break_glass(&self.caller, request.into_inner()).await)
    }

    async fn end_access(
        &self,
        request: Request<proto::EndAccessRequest>,
    ) -> Answered<proto::EndAccessResponse> {
        answered(self.operator.end_access(&self.caller, request.into_inner()).await)
    }
}

#[tonic::async_trait]
impl RotationFeed for Calls {
    type WatchRotationsStream = Streamed<proto::WatchRotationsResponse>;

    async fn watch_rotations(
        &self,
        request: Request<proto::WatchRotationsRequest>,
    ) -> Answered<Self::WatchRotationsStream> {
        streamed(self.operator.watch_rotations(&self.caller, request.get_ref()))
    }

    async fn report_adoption(
        &self,
        request: Request<proto::ReportAdoptionRequest>,
    ) -> Answered<proto::ReportAdoptionResponse> {
        answered(self.operator.report_adoption(&self.caller, request.into_inner()))
    }
}
