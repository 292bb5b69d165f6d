//! What a first start finds: one account, one site, one PBX, one admin.

use std::sync::Arc;

use super::{ChangeError, Registry};
use crate::model::{
    Account, AccountId, AccountSettings, NumberPlan, Pbx, PbxId, PopOn, QueueLogin, Site, SiteId, User, UserId,
};
use crate::store::{Seq, Stored};

/// What feeds and listeners use when nothing else is said.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The account.
    pub account: AccountId,
    /// Its site.
    pub site: SiteId,
    /// Its PBX.
    pub pbx: PbxId,
    /// The first admin; none when it has been deleted.
    pub admin: Option<UserId>,
    /// Whether they were made just now.
    pub created: bool,
    /// What to wait for before telling anyone.
    pub seq: Seq,
}

impl Registry {
    /// Finds the default account, site, PBX and first admin, or makes them. The default one is the first that was made,
    /// whatever it is called by now. Only that admin is enabled for popups from the start (T11).
    ///
    /// # Errors
    /// [`ChangeError`] when they can't be made.
    pub fn ensure_defaults(&self) -> Result<Defaults, ChangeError> {
        if let Some(account) = self.accounts.oldest(None) {
            return self.existing_defaults(&account);
        }
        let (created_at, clock) = (self.clock.now().unix, &self.clock);
        let account = self.create_account(Account {
            id: AccountId(clock.uuid()),
            parent: None,
            name: DEFAULT.into(),
            domains: Vec::new(),
            number_plan: NumberPlan::default(),
            settings: AccountSettings::default(),
            created_at,
        })?;
        let site = self.default_site(account.value.id)?;
        let pbx = self.default_pbx(&site)?;
        let admin = self.create_user(User {
            id: UserId(clock.uuid()),
            account: account.value.id,
            email: None,
            name: "admin".into(),
            enabled: true,
            dnd: false,
            pop_on: PopOn::default(),
            queues: Vec::new(),
            queue_login: QueueLogin::default(),
            parked: Vec::new(),
            created_at,
        })?;
        Ok(Defaults {
            account: account.value.id,
            site: site.value.id,
            pbx: pbx.value.id,
            admin: Some(admin.value.id),
            created: true,
            seq: admin.seq,
        })
    }

    fn existing_defaults(&self, account: &Stored<Account>) -> Result<Defaults, ChangeError> {
        let id = account.value.id;
        let pbx = match self.pbxs.oldest(Some(id)) {
            Some(pbx) => pbx,
            None => self.default_pbx(&*self.default_site(id)?)?,
        };
        // Made in one breath with the account; the oldest of those who are left may be anybody.
        let admin = self.users.oldest(Some(id)).filter(|user| user.value.created_at == account.value.created_at);
        Ok(Defaults {
            account: id,
            site: pbx.value.site,
            pbx: pbx.value.id,
            admin: admin.map(|admin| admin.value.id),
            created: false,
            seq: pbx.seq,
        })
    }

    fn default_site(&self, account: AccountId) -> Result<Arc<Stored<Site>>, ChangeError> {
        if let Some(site) = self.sites.oldest(Some(account)) {
            return Ok(site);
        }
        let (id, created_at) = (SiteId(self.clock.uuid()), self.clock.now().unix);
        self.create_site(Site { id, account, name: DEFAULT.into(), created_at })
    }

    fn default_pbx(&self, site: &Stored<Site>) -> Result<Arc<Stored<Pbx>>, ChangeError> {
        self.create_pbx(Pbx {
            id: PbxId(self.clock.uuid()),
            account: site.value.account,
            site: site.value.id,
            name: DEFAULT.into(),
            domain: "pbx.local".into(),
            aliases: Vec::new(),
            any_domain: true,
            networks: Vec::new(),
            passive_expires_max_s: 3_600,
            passive_grace_s: 300,
            queue_rules: Vec::new(),
            control: false,
            created_at: self.clock.now().unix,
        })
    }
}

const DEFAULT: &str = "default";
