//! The finite-field groups of RFC 7919 (NVMe Base 2.0, figure 448): a secret that only both ends can know.
//!
//! Each prime of b bits is 2^b - 2^(b-64) + (floor(2^(b-130) e) + X) 2^64 - 1, and the generator is 2. The private exponents are
//! short, as RFC 7919 allows (section 5.2), so that a value takes a few milliseconds and not a hundred.

use alloc::vec::Vec;

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};

use crate::random::Random;

/// floor(2^8062 e): the digits that all five primes have in their middle.
const E: &str = "\
      ADF85458A2BB4A9AAFDC5620273D3CF1D8B9C583CE2D3695A9E13641146433FBCC939DCE249B3EF97D2FE363630C75D8F681B202AEC4617A\
      D3DF1ED5D5FD65612433F51F5F066ED0856365553DED1AF3B557135E7F57C935984F0C70E0E68B77E2A689DAF3EFE8721DF158A136ADE735\
      30ACCA4F483A797ABC0AB182B324FB61D108A94BB2C8E3FBB96ADAB760D7F4681D4F42A3DE394DF4AE56EDE76372BB190B07A7C8EE0A6D70\
      9E02FCE1CDF7E2ECC03404CD28342F619172FE9CE98583FF8E4F1232EEF28183C3FE3B1B4C6FAD733BB5FCBC2EC22005C58EF1837D1683B2\
      C6F34A26C1B2EFFA886B4238611FCFDCDE355B3B6519035BBC34F4DEF99C023861B46FC9D6E6C9077AD91D2691F7F7EE598CB0FAC186D91C\
      AEFE130985139270B4130C93BC437944F4FD4452E2D74DD364F2E21E71F54BFF5CAE82AB9C9DF69EE86D2BC522363A0DABC521979B0DEADA\
      1DBF9A42D5C4484E0ABCD06BFA53DDEF3C1B20EE3FD59D7C25E41D2B669E1EF16E6F52C3164DF4FB7930E9E4E58857B6AC7D5F42D69F6D18\
      7763CF1D5503400487F55BA57E31CC7A7135C886EFB4318AED6A1E012D9E6832A907600A918130C46DC778F971AD0038092999A333CB8B7A\
      1A1DB93D7140003C2A4ECEA9F98D0ACC0A8291CDCEC97DCF8EC9B55A7F88A46B4DB5A851F44182E1C68A007E5E0DD9020BFD64B645036C7A\
      4E677D2C38532A3A23BA4442CAF53EA63BB454329B7624C8917BDD64B1C0FD4CB38E8C334C701C3ACDAD0657FCCFEC719B1F5C3E4E46041F\
      388147FB4CFDB477A52471F7A9A96910B855322EDB6340D8A00EF092350511E30ABEC1FFF9E3A26E7FB29F8C183023C3587E38DA0077D9B4\
      763E4E4B94B2BBC194C6651E77CAF992EEAAC0232A281BF6B3A739C1226116820AE8DB5847A67CBEF9C9091B462D538CD72B03746AE77F5E\
      62292C311562A846505DC82DB854338AE49F5235C95B91178CCF2DD5CACEF403EC9D1810C6272B045B3B71F9DC6B80D63FDD4A8E9ADB1E69\
      62A69526D43161C1A41D570D7938DAD4A40E329CCFF46AAA36AD004CF600C8381E425A31D951AE64FDB23FCEC9509D43687FEB69EDD1CC5E\
      0B8CC3BDF64B10EF86B63142A3AB8829555B2F747C932665CB2C0F1CC01BD70229388839D2AF05E454504AC78B7582822846C0BA35C35F5C\
      59160CC046FD8251541FC68C9C86B022BB7099876A460E7451A8A93109703FEE1C217E6C3826E52C51AA691E0E423CFC99E9E31650C1217B\
      624816CDAD9A95F9D5B8019488D9C0A0A1FE3075A577E23183F81D4A3F2FA4571EFC8CE0BA8A4FE8B6855DFE72B0A66EDED2FBABFBE58A30\
      FAFABE1C5D71A87E2F741EF8C1FE86FEA6BBFDE530677F0D97D11D49F7A8443D0822E506A9F4614E011E2A94838FF88CD68C8BB7C51EEF6D";

/// Bytes of a prime that are ones, at either end.
const ONES_BYTES: usize = 8;

/// Bytes of a private exponent: more than RFC 7919 asks for with any of the groups (400 bits).
const EXPONENT_BYTES: usize = 64;

/// A group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Group {
    Ffdhe2048 = 1,
    Ffdhe3072 = 2,
    Ffdhe4096 = 3,
    Ffdhe6144 = 4,
    Ffdhe8192 = 5,
}

impl Group {
    /// All of them, the one that is taken first first: as strong as SHA-256, and no slower than needed.
    pub(crate) const ALL: [Self; 5] =
        [Self::Ffdhe3072, Self::Ffdhe2048, Self::Ffdhe4096, Self::Ffdhe6144, Self::Ffdhe8192];

    /// Bytes of a value.
    pub(crate) const fn bytes(self) -> u16 {
        match self {
            Self::Ffdhe2048 => 256,
            Self::Ffdhe3072 => 384,
            Self::Ffdhe4096 => 512,
            Self::Ffdhe6144 => 768,
            Self::Ffdhe8192 => 1024,
        }
    }

    /// X (RFC 7919, appendix A).
    const fn x(self) -> u32 {
        match self {
            Self::Ffdhe2048 => 560_316,
            Self::Ffdhe3072 => 2_625_351,
            Self::Ffdhe4096 => 5_736_041,
            Self::Ffdhe6144 => 15_705_020,
            Self::Ffdhe8192 => 10_965_728,
        }
    }

    fn bits(self) -> u32 {
        u32::from(self.bytes()) * 8
    }

    /// The prime.
    fn prime(self) -> Odd<BoxedUint> {
        let middle = usize::from(self.bytes()) - 2 * ONES_BYTES;
        let mut bytes = Vec::from([0xff; ONES_BYTES]);
        let digit = |at: usize| u8::from_str_radix(&E[at..at + 2], 16).expect("hexadecimal digits");
        bytes.extend((0..middle).map(|at| digit(2 * at)));
        // The last 1 that is taken away turns the low bytes into ones.
        let mut carry = self.x() - 1;
        for byte in bytes.iter_mut().rev() {
            let sum = u32::from(*byte) + (carry & 0xff);
            let [low, high, ..] = sum.to_le_bytes();
            *byte = low;
            carry = (carry >> 8) + u32::from(high);
        }
        bytes.extend([0xff; ONES_BYTES]);
        Odd::new(self.number(&bytes)).expect("its last bytes are ones")
    }

    /// A number of as many bytes.
    fn number(self, bytes: &[u8]) -> BoxedUint {
        BoxedUint::from_be_slice(bytes, self.bits()).expect("it fits")
    }

    /// Raises a value to a private exponent.
    fn power(self, value: BoxedUint, exponent: &[u8; EXPONENT_BYTES]) -> Vec<u8> {
        const EXPONENT_BITS: u32 = 512;
        let params = BoxedMontyParams::new(self.prime());
        let exponent = BoxedUint::from_be_slice(exponent, EXPONENT_BITS).expect("it fits");
        BoxedMontyForm::new(value, &params).pow_bounded_exp(&exponent, EXPONENT_BITS).retrieve().to_be_bytes().to_vec()
    }
}

/// One end's part of an exchange.
pub(crate) struct Exchange {
    /// The group.
    pub(crate) group: Group,
    exponent: [u8; EXPONENT_BYTES],
}

impl Exchange {
    /// With a private exponent that `random` makes.
    pub(crate) fn new(group: Group, random: &Random) -> Self {
        let mut exponent = [0; EXPONENT_BYTES];
        random.fill(&mut exponent);
        Self { group, exponent }
    }

    /// The value that the other end gets.
    pub(crate) fn public(&self) -> Vec<u8> {
        self.group.power(self.group.number(&[2]), &self.exponent)
    }

    /// The secret that both ends come to, from the other end's value. `None` if that is no value: 0, 1, or the prime less one,
    /// from which the secret could be foreseen, or something beyond.
    pub(crate) fn secret(&self, theirs: &[u8]) -> Option<Vec<u8>> {
        if theirs.len() != usize::from(self.group.bytes()) {
            return None;
        }
        let (value, one) = (self.group.number(theirs), self.group.number(&[1]));
        let last = self.group.prime().as_ref().wrapping_sub(&one);
        (value > one && value < last).then(|| self.group.power(value, &self.exponent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7919, appendix A: the last digits before the ones.
    #[test]
    fn primes_are_those_of_the_rfc() {
        for (group, end) in [
            (Group::Ffdhe2048, 0x886B_4238_6128_5C97_u64),
            (Group::Ffdhe3072, 0x25E4_1D2B_66C6_2E37),
            (Group::Ffdhe4096, 0xC68A_007E_5E65_5F6A),
            (Group::Ffdhe6144, 0xA40E_329C_D0E4_0E65),
            (Group::Ffdhe8192, 0xD68C_8BB7_C5C6_424C),
        ] {
            let bytes = group.prime().as_ref().to_be_bytes();
            let middle = &bytes[bytes.len() - 2 * ONES_BYTES..];
            assert_eq!(middle[..ONES_BYTES], end.to_be_bytes(), "{group:?}");
            assert_eq!(middle[ONES_BYTES..], [0xff; ONES_BYTES]);
            assert_eq!(bytes[..16], 0xFFFF_FFFF_FFFF_FFFF_ADF8_5458_A2BB_4A9A_u128.to_be_bytes());
        }
    }

    #[test]
    fn both_ends_come_to_the_same_secret() {
        for group in Group::ALL {
            let one = Exchange::new(group, &Random::new(|it| it.fill(0x5a)));
            let other = Exchange::new(group, &Random::new(|it| it.fill(0xc3)));
            let secret = one.secret(&other.public()).expect("a value");
            assert_eq!(secret, other.secret(&one.public()).expect("a value"), "{group:?}");
            assert_eq!(secret.len(), usize::from(group.bytes()));
        }
    }

    #[test]
    fn values_that_give_the_secret_away_are_refused() {
        let exchange = Exchange::new(Group::Ffdhe2048, &Random::new(|it| it.fill(0x5a)));
        let prime = Group::Ffdhe2048.prime().as_ref().to_be_bytes();
        let mut value = Vec::from([0; 256]);
        for (last, ok) in [(0, false), (1, false), (2, true)] {
            value[255] = last;
            assert_eq!(exchange.secret(&value).is_some(), ok, "{last}");
        }
        value.copy_from_slice(&prime);
        for (last, ok) in [(0xff, false), (0xfe, false), (0xfd, true)] {
            value[255] = last;
            assert_eq!(exchange.secret(&value).is_some(), ok, "the prime less {}", 0xff - last);
        }
        assert_eq!(exchange.secret(&value[1..]), None);
    }
}
