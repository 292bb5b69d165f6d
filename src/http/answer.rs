//! What handlers answer: records with their version, pages, and what was refused.

use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::etag::etag;
use super::problem::{Problem, Result};
use super::query::{Cursor, Page};
use super::state::AppState;
use crate::registry::{self, ChangeError};
use crate::store::{Seq, Stored};

/// One record and its version, known to be stored.
#[derive(Clone, Debug)]
pub struct Tagged<T> {
    status: StatusCode,
    value: Arc<T>,
    seq: Seq,
    location: Option<String>,
}

impl<T> Tagged<T> {
    /// 200 with `value`, once its last change is on disk.
    ///
    /// # Errors
    /// 503 when that is not known in time.
    pub async fn ok(state: &AppState, value: impl Into<Arc<T>>, seq: Seq) -> Result<Self> {
        state.stored(seq).await?;
        Ok(Self { status: StatusCode::OK, value: value.into(), seq, location: None })
    }

    /// 201 with `value`, made at `location`, once it is on disk.
    ///
    /// # Errors
    /// 503 with the location when that is not known in time.
    pub async fn created(state: &AppState, value: impl Into<Arc<T>>, seq: Seq, location: String) -> Result<Self> {
        state.stored_at(seq, &location).await?;
        Ok(Self { status: StatusCode::CREATED, value: value.into(), seq, location: Some(location) })
    }
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.value)).into_response();
        response.headers_mut().insert(header::ETAG, etag(self.seq));
        if let Some(location) = self.location.and_then(|location| HeaderValue::try_from(location).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// A page of `list` as JSON, once every record on it is on disk.
///
/// # Errors
/// 503 when that is not known in time.
pub async fn page_of<T, V>(
    state: &AppState,
    list: &str,
    page: registry::Page<Arc<Stored<T>>>,
    show: impl Fn(&T) -> V,
) -> Result<Json<Page<V>>> {
    // What is not on the page is an answer too.
    let newest = page.items.iter().map(|item| item.seq).fold(state.registry.gone(), Seq::max);
    state.stored(newest).await?;
    let items = page.items.iter().map(|item| show(&item.value)).collect();
    Ok(Json(Page { items, next: page.next.map(|next| Cursor::write(list, &next)) }))
}

/// Runs an edit of the registry's with a change that may be refused by a problem of ours.
///
/// # Errors
/// What `change` refuses with, else what the registry does.
pub fn edited<T, R>(
    update: impl FnOnce(&mut dyn FnMut(&mut T) -> Result<(), ChangeError>) -> Result<R, ChangeError>,
    change: impl FnOnce(&mut T) -> Result<()>,
) -> Result<R> {
    let mut change = Some(change);
    let mut refused = None;
    let outcome = update(&mut |value| {
        let change = change.take().map_or(Ok(()), |change| change(value));
        change.map_err(|problem| {
            refused = Some(problem);
            ChangeError::Invalid { detail: String::new() }
        })
    });
    match (outcome, refused) {
        (Err(_), Some(problem)) => Err(problem),
        (outcome, _) => outcome.map_err(Problem::from),
    }
}

/// 204 for something that was deleted, once its end is on disk.
///
/// # Errors
/// What the registry refuses with; 503 when the end is not known to be stored in time.
pub async fn removed(state: &AppState, deleted: std::result::Result<Seq, ChangeError>) -> Result<StatusCode> {
    state.stored(deleted?).await?;
    Ok(StatusCode::NO_CONTENT)
}
