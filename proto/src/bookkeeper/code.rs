//! A bookie's answer codes and their numbers in both protocol versions. The only place that maps them.

use super::v3::StatusCode;

/// What a bookie says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Done.
    Ok,
    /// Proof of absence: this bookie never stored an entry of the ledger, nor fenced it.
    NoLedger,
    /// Proof of absence: this bookie does not have the entry.
    NoEntry,
    /// The request makes no sense.
    BadRequest,
    /// Failed; nothing can be concluded about what is stored.
    Io,
    /// Wrong master key, or not authenticated.
    Unauthorized,
    /// The protocol version is not spoken.
    BadVersion,
    /// The ledger takes no more entries from its writer.
    Fenced,
    /// The bookie takes no entries.
    ReadOnly,
    /// Overloaded; the request was not started.
    TooManyRequests,
    /// The bookie lost data and does not yet know what; an absence would be no proof.
    UnknownLedgerState,
}

impl Code {
    /// The number in version 2. There is none for an unknown ledger state: upstream's client closes the connection on it,
    /// so it travels as an I/O error, which quorum logic treats alike.
    pub const fn to_v2(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::NoLedger => 1,
            Self::NoEntry => 2,
            Self::BadRequest => 100,
            Self::Io | Self::UnknownLedgerState => 101,
            Self::Unauthorized => 102,
            Self::BadVersion => 103,
            Self::Fenced => 104,
            Self::ReadOnly => 105,
            Self::TooManyRequests => 106,
        }
    }

    /// A number this version of the protocol does not have is a failure from which nothing follows: [`Code::Io`].
    pub const fn from_v2(number: i32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::NoLedger,
            2 => Self::NoEntry,
            100 => Self::BadRequest,
            102 => Self::Unauthorized,
            103 => Self::BadVersion,
            104 => Self::Fenced,
            105 => Self::ReadOnly,
            106 => Self::TooManyRequests,
            107 => Self::UnknownLedgerState,
            _ => Self::Io,
        }
    }

    /// The status in version 3.
    pub const fn to_v3(self) -> StatusCode {
        match self {
            Self::Ok => StatusCode::Eok,
            Self::NoLedger => StatusCode::Enoledger,
            Self::NoEntry => StatusCode::Enoentry,
            Self::BadRequest => StatusCode::Ebadreq,
            Self::Io => StatusCode::Eio,
            Self::Unauthorized => StatusCode::Eua,
            Self::BadVersion => StatusCode::Ebadversion,
            Self::Fenced => StatusCode::Efenced,
            Self::ReadOnly => StatusCode::Ereadonly,
            Self::TooManyRequests => StatusCode::Etoomanyrequests,
            Self::UnknownLedgerState => StatusCode::Eunknownledgerstate,
        }
    }

    /// The raw status of a version 3 message. An unknown number is [`Code::Io`], as in version 2.
    pub fn from_v3(number: i32) -> Self {
        match StatusCode::try_from(number) {
            Ok(StatusCode::Eok) => Self::Ok,
            Ok(StatusCode::Enoledger) => Self::NoLedger,
            Ok(StatusCode::Enoentry) => Self::NoEntry,
            Ok(StatusCode::Ebadreq) => Self::BadRequest,
            Ok(StatusCode::Eio) | Err(_) => Self::Io,
            Ok(StatusCode::Eua) => Self::Unauthorized,
            Ok(StatusCode::Ebadversion) => Self::BadVersion,
            Ok(StatusCode::Efenced) => Self::Fenced,
            Ok(StatusCode::Ereadonly) => Self::ReadOnly,
            Ok(StatusCode::Etoomanyrequests) => Self::TooManyRequests,
            Ok(StatusCode::Eunknownledgerstate) => Self::UnknownLedgerState,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Code; 11] = [
        Code::Ok,
        Code::NoLedger,
        Code::NoEntry,
        Code::BadRequest,
        Code::Io,
        Code::Unauthorized,
        Code::BadVersion,
        Code::Fenced,
        Code::ReadOnly,
        Code::TooManyRequests,
        Code::UnknownLedgerState,
    ];

    #[test]
    fn every_code_survives_version_3() {
        for code in ALL {
            assert_eq!(Code::from_v3(code.to_v3() as i32), code);
        }
    }

    #[test]
    fn every_code_but_limbo_survives_version_2() {
        for code in ALL {
            let expected = if code == Code::UnknownLedgerState { Code::Io } else { code };
            assert_eq!(Code::from_v2(code.to_v2()), expected);
        }
    }

    #[test]
    fn an_unknown_number_is_never_a_proof_of_absence() {
        assert_eq!(Code::from_v2(3), Code::Io);
        assert_eq!(Code::from_v3(9999), Code::Io);
    }
}
