//! temporary
/// caller
pub struct Caller {
    /// i
    pub identity: std::sync::Arc<str>,
}
