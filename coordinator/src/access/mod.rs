//! Who may do what: the text of API keys ([`NewKey`]), and whether a request with one may be carried out ([`authorize`]). The keys
//! themselves are in the catalog; there is no secret in it. What each route needs is the API's to know.

mod authorize;
mod token;

pub use authorize::{Caller, Denied, authorize};
pub use token::NewKey;
