//! SIP passwords of devices, as what is kept of them.

use std::sync::Arc;

use dashmap::DashMap;

use super::{ChangeError, Registry};
use crate::model::{DeviceId, DeviceSecret, Ha1, UnixMillis};
use crate::store::{DirtyKey, Kind, Seq, Stored};

/// Apart from the devices' records, of which there may be a million without one.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    by_device: DashMap<DeviceId, Arc<Stored<DeviceSecret>>>,
}

impl Secrets {
    pub(super) fn row(&self, device: DeviceId) -> Option<Arc<Stored<DeviceSecret>>> {
        self.by_device.get(&device).map(|row| row.clone())
    }
}

impl Registry {
    /// Sets a device's secret in place of the one it had. Wait for the number before telling anyone.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`] when there is no such device.
    pub fn set_secret(&self, secret: DeviceSecret) -> Result<Seq, ChangeError> {
        let _editing = self.editing();
        let device = secret.device;
        self.device(device).ok_or(ChangeError::NotFound)?;
        let value = Arc::new(secret);
        // Marked under the entry's lock: the journal reads the row as it is when the number is given, or newer.
        let entry = self.secrets.by_device.entry(device);
        let seq = self.journal.mark(DirtyKey { kind: Kind::Secret, id: device.0 });
        entry.insert(Arc::new(Stored { value, seq }));
        Ok(seq)
    }

    /// Takes a device's secret away. Wait for the number before telling anyone.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`] when it has none.
    pub fn remove_secret(&self, device: DeviceId) -> Result<Seq, ChangeError> {
        let _editing = self.editing();
        self.drop_secret(device).ok_or(ChangeError::NotFound)
    }

    /// What a device's password is checked by; none when it has none, or one of another realm.
    #[must_use]
    pub fn ha1(&self, device: DeviceId, realm: &str) -> Option<Ha1> {
        let row = self.secrets.by_device.get(&device)?;
        (*row.value.realm == *realm).then_some(row.value.ha1)
    }

    /// Whether a device has a secret, of whichever realm.
    #[must_use]
    pub fn has_secret(&self, device: DeviceId) -> bool {
        self.secrets.by_device.contains_key(&device)
    }

    /// When a device's secret was set, and the change that an answer which shows this waits for.
    #[must_use]
    pub fn secret_set_at(&self, device: DeviceId) -> Option<(UnixMillis, Seq)> {
        self.secrets.by_device.get(&device).map(|row| (row.value.set_at, row.seq))
    }

    /// How many secrets were set under another realm than this, and so prove nothing. Looks at all of them.
    #[must_use]
    pub fn secrets_beyond(&self, realm: &str) -> usize {
        self.secrets.by_device.iter().filter(|row| *row.value.realm != *realm).count()
    }

    pub(super) fn drop_secret(&self, device: DeviceId) -> Option<Seq> {
        let dashmap::Entry::Occupied(entry) = self.secrets.by_device.entry(device) else { return None };
        let seq = self.journal.mark_gone(DirtyKey { kind: Kind::Secret, id: device.0 });
        entry.remove();
        Some(seq)
    }

    /// Takes over one that the database had.
    pub(super) fn restore_secret(&self, row: Stored<DeviceSecret>) {
        let device = row.value.device;
        if self.device(device).is_some() {
            self.secrets.by_device.insert(device, Arc::new(row));
        } else {
            self.journal.mark(DirtyKey { kind: Kind::Secret, id: device.0 });
        }
    }
}
