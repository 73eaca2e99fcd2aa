//! What operators see of Klaviyo's limits, and of what keeps calls from leaving.

use super::Operations;
use crate::klaviyo::BudgetScale;
pub use crate::queue::{BarrierState, OperationLimits};
use crate::queue::{RedisResult, operation_limits};

impl Operations {
    /// Says how the account's limits apply, and which share of them is left to others.
    #[must_use]
    pub fn with_limits(mut self, scale: BudgetScale, reserve: f64) -> Self {
        self.limits = (scale, reserve);
        self
    }

    /// Returns how each operation of Klaviyo stands, as all daemons of the account see it.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn limits(&mut self) -> RedisResult<Vec<OperationLimits>> {
        let (scale, reserve) = self.limits;
        operation_limits(&mut self.redis, &self.keys, scale, reserve).await
    }
}
