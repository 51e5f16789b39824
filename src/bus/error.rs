//! How a failure goes out on the wire: under the D-Bus name that the error table gives, with a message that stands
//! alone.
//!
//! Written by hand because the derive would send every error that is not its own as `org.freedesktop.zbus.Error`.

use zbus::{DBusError, Message, message::Header, names::ErrorName};

use crate::{model::ErrorCode, service::ServiceError};

/// A [`ServiceError`] as D-Bus sees it.
#[derive(Debug, Clone)]
pub struct ApiError {
    error: ServiceError,
    message: String,
}

impl ApiError {
    /// An error with this code and message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ServiceError::new(code, message).into()
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.error.code()
    }

    /// The sentence that goes out.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        Self { message: super::limits::text(&error.to_string()), error }
    }
}

impl From<zbus::Error> for ApiError {
    fn from(error: zbus::Error) -> Self {
        Self::new(ErrorCode::Internal, format!("cannot talk to D-Bus: {error}"))
    }
}

impl DBusError for ApiError {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name()).build(&(self.message.as_str(),))
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_static_str_unchecked(self.error.code().row().dbus_name)
    }

    fn description(&self) -> Option<&str> {
        Some(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error_code::TABLE;

    #[test]
    fn every_name_of_the_table_may_be_sent() {
        for row in TABLE {
            assert!(ErrorName::try_from(row.dbus_name).is_ok(), "{}", row.dbus_name);
            assert_eq!(ApiError::new(row.code, "a\0b").name().as_str(), row.dbus_name);
        }
        assert_eq!(ApiError::new(ErrorCode::Failed, "a\0b").description(), Some("a\u{2400}b"));
    }
}
