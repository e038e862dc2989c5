//! Takes a device into use: asks who it is, and leads a window's addresses to all of its memory.

use super::decoder::{Decoders, HdmRange};
use super::mailbox::{Identity, Mailbox};
use super::{CxlError, Which};
use crate::flush::NowNs;
use crate::registers::Registers;

/// A window of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its addresses.
    pub range: HdmRange,
    /// Whether what is behind it is firmware's to choose: no decoder is programmed for it.
    pub is_fixed: bool,
}

/// The registers that lead to a device.
#[derive(Debug)]
pub struct Path<'r, R> {
    /// The host bridge's component registers.
    pub bridge: &'r R,
    /// The number of the host bridge's port that the device is below.
    pub port: u8,
    /// The device's component registers.
    pub device: &'r R,
    /// The windows that lead to the host bridge alone, and may have persistent memory behind them.
    pub windows: &'r [Window],
}

/// Returns where a device's memory is, and who it is. The decoders are used as found where firmware has committed them, and
/// programmed where it has not. Whether stores arrive there is still to be tried.
///
/// # Errors
/// [`CxlError`]: what cannot be used. Decoders of the host bridge may have been programmed then.
pub fn start<R: Registers, M: Registers>(
    path: &Path<'_, R>,
    mailbox: &mut Mailbox<M>,
    now_ns: NowNs,
) -> Result<(HdmRange, Identity), CxlError> {
    let identity = mailbox.identify()?;
    let Identity { total, persistent, .. } = identity;
    match persistent {
        0 => return Err(CxlError::NoneIsPersistent),
        _ if persistent != total => return Err(CxlError::PartIsVolatile { persistent, total }),
        _ => {}
    }
    let device = Decoders::find(path.device, Which::Device)?.ok_or(CxlError::NoDecoders)?;
    // A host bridge with one port may have no decoders: all its windows lead there.
    let bridge = Decoders::find(path.bridge, Which::HostBridge)?;
    let of_device = device.committed(path.port)?;
    let of_bridge = bridge.as_ref().map(|it| it.committed(path.port)).transpose()?.flatten();

    let range = match (of_device, of_bridge) {
        (Some(range), _) => range,
        // The host bridge may lead more than this device's memory to the port.
        (None, Some(of_bridge)) => HdmRange { base: of_bridge.base, bytes: total },
        (None, None) => {
            let at_start = |window: &Window| HdmRange { base: window.range.base, bytes: total };
            let mut roomy = path.windows.iter().filter(|window| window.range.contains(&at_start(window)));
            let first = roomy.clone().next().ok_or(CxlError::NoRoom { bytes: total })?;
            at_start(roomy.find(|window| !window.is_fixed).unwrap_or(first))
        }
    };
    let odd = |which, HdmRange { base, bytes }| Err(CxlError::OddRange { which, base, bytes });
    let window = path.windows.iter().find(|window| range.bytes == total && window.range.contains(&range));
    let Some(window) = window else {
        let which = if of_device.is_some() { Which::Device } else { Which::HostBridge };
        return odd(which, of_device.or(of_bridge).unwrap_or(range));
    };
    if window.is_fixed && (of_device.is_none() || (bridge.is_some() && of_bridge.is_none())) {
        return Err(CxlError::FixedWindow { base: window.range.base });
    }
    match of_bridge {
        Some(of_bridge) if !of_bridge.contains(&range) => return odd(Which::HostBridge, of_bridge),
        Some(_) => {}
        None => bridge.iter().try_for_each(|bridge| bridge.commit(&range, path.port, now_ns))?,
    }
    bridge.iter().for_each(Decoders::enable);
    if of_device.is_none() {
        device.commit(&range, path.port, now_ns)?;
    }
    device.enable();
    Ok((range, identity))
}
