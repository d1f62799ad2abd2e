//! What a failure of TLS means, in words that say what to do. An error of rustls names the rule that was broken; who reads it wants to
//! know which file, name or setting is wrong.

#![allow(clippy::wildcard_enum_match_arm, reason = "rustls adds errors as it likes, and most need no words of ours")]

use rustls::{AlertDescription, CertificateError, Error as Tls, InvalidMessage};
use std::error::Error;
use std::io;

/// An error of TLS in words.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub struct TlsFault {
    words: String,
    /// What whoever dialled can do about it.
    pub remedy: Remedy,
}

/// What whoever dialled can do about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Dial plainly.
    DialPlainly,
    /// Trust another authority.
    TrustAnother,
    /// The words say it, or it is for the other side to do.
    None,
}

/// The same error; or, where TLS is the cause, one that says in words what is wrong.
pub fn explained(error: Box<dyn Error + Send + Sync>) -> Box<dyn Error + Send + Sync> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error.as_ref());
    while let Some(one) = next {
        if let Some((error, words)) = as_tls(one).and_then(|error| Some((error, words(error)?))) {
            return Box::new(TlsFault { words, remedy: remedy(error) });
        }
        next = one.source();
    }
    error
}

/// An error of rustls, also one that an error of input and output carries: such a one hides it from the chain of causes.
fn as_tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Tls> {
    let carried = |error: &'a io::Error| error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>());
    error.downcast_ref::<Tls>().or_else(|| error.downcast_ref::<io::Error>().and_then(carried))
}

fn remedy(error: &Tls) -> Remedy {
    match error {
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => Remedy::DialPlainly,
        Tls::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Remedy::TrustAnother
        }
        _ => Remedy::None,
    }
}

/// What an error means; none where its own text says all there is to say.
pub(crate) fn words(error: &Tls) -> Option<String> {
    let said = match error {
        Tls::InvalidCertificate(certificate) => return of_certificate(certificate),
        Tls::NoCertificatesPresented => {
            "it showed no certificate, and only programs of this cluster are let in: give it [tls] with a certificate of the \
             cluster's authority"
        }
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS there: either it should be set up for TLS, or the address is one for http://"
        }
        Tls::PeerIncompatible(_) => "it speaks no version of TLS that is safe: 1.2 or newer is needed",
        Tls::AlertReceived(alert) => return of_alert(*alert),
        _ => return None,
    };
    Some(said.to_owned())
}

fn of_certificate(error: &CertificateError) -> Option<String> {
    let said = match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is of no authority that is trusted here: see ca_file"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: see the clocks of both machines"
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names = presented.join(", ");
            return Some(format!(
                "its certificate is not for {}, which was dialled, but for {names}",
                expected.to_str()
            ));
        }
        CertificateError::NotValidForName => "its certificate is for another name than was dialled",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for this use: its extendedKeyUsage must have both serverAuth and clientAuth, or be left out"
        }
        _ => return None,
    };
    Some(said.to_owned())
}

fn of_alert(alert: AlertDescription) -> Option<String> {
    let said = match alert {
        AlertDescription::CertificateRequired => {
            "it lets in only who shows a certificate: this is a port for the cluster's own programs, or [tls] is missing here"
        }
        AlertDescription::UnknownCA => "it does not trust the authority of the certificate that was shown to it",
        AlertDescription::CertificateExpired => "the certificate that was shown to it has expired",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "it refused the certificate that was shown to it: its log says why",
        AlertDescription::ProtocolVersion => "it speaks no version of TLS that is safe: 1.2 or newer is needed",
        _ => return None,
    };
    Some(said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_though_an_error_of_input_and_output_hides_it() {
        let tls = Tls::InvalidCertificate(CertificateError::Expired);
        let hidden = io::Error::other(tls.clone());
        for error in [Box::<dyn Error + Send + Sync>::from(tls), hidden.into()] {
            assert_eq!(explained(error).to_string(), "its certificate has expired");
        }
        assert_eq!(explained(io::Error::other("a cable").into()).to_string(), "a cable");
    }
}
