use crate::managed_ledger::*;
use magnetar_proto::ids::*;
use std::collections::*;
use std::sync::Mutex;
#[derive(Clone)]
pub struct Cursor {
    mark: MarkDelete,
    acked: BTreeSet<Position>,
    partial: BTreeMap<Position, Vec<u64>>,
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct CursorError;
pub struct CursorStore {
    key: (usize, String, String),
    props: BTreeMap<String, String>,
}
pub type Snap = Cursor;
static M: Mutex<BTreeMap<(usize, String, String), (Cursor, BTreeMap<String, String>)>> =
    Mutex::new(BTreeMap::new());
pub enum AckOutcome {
    Nothing,
    Partly { newly: u32 },
    Entry,
}
impl CursorError {
    pub fn is_final(&self) -> bool {
        false
    }
}
impl Cursor {
    pub fn new(mark: MarkDelete) -> Self {
        Cursor { mark, acked: Default::default(), partial: Default::default() }
    }
    pub fn mark_delete(&self) -> MarkDelete {
        self.mark
    }
    pub fn is_acked(&self, p: Position) -> bool {
        self.mark.covers(p) || self.acked.contains(&p)
    }
    fn adv(&mut self, l: &LedgerList) {
        loop {
            let n = l.next_after(self.mark);
            if self.acked.remove(&n) {
                self.mark = n.into();
            } else {
                break;
            }
        }
    }
    pub fn ack(&mut self, p: Position, l: &LedgerList) -> bool {
        if self.is_acked(p) {
            return false;
        }
        self.partial.remove(&p);
        self.acked.insert(p);
        self.adv(l);
        true
    }
    pub fn ack_batch(&mut self, p: Position, s: &[u64], n: u32, l: &LedgerList) -> AckOutcome {
        if self.is_acked(p) {
            return AckOutcome::Nothing;
        }
        let cur = self.partial.entry(p).or_insert_with(|| {
            let mut v = vec![u64::MAX; n.div_ceil(64) as usize];
            if n % 64 != 0 {
                *v.last_mut().unwrap() = (1 << (n % 64)) - 1;
            }
            v
        });
        let before: u32 = cur.iter().map(|w| w.count_ones()).sum();
        for (i, w) in cur.iter_mut().enumerate() {
            *w &= s.get(i).copied().unwrap_or(0);
        }
        let after: u32 = cur.iter().map(|w| w.count_ones()).sum();
        if after == 0 {
            self.ack(p, l);
            AckOutcome::Entry
        } else if after == before {
            AckOutcome::Nothing
        } else {
            AckOutcome::Partly { newly: before - after }
        }
    }
    pub fn ack_cumulative(&mut self, p: Position, s: Option<(&[u64], u32)>, l: &LedgerList) {
        let m = if s.is_some() { l.mark_before(p) } else { p.into() };
        if m > self.mark {
            self.mark = m;
            self.acked.retain(|q| !m.covers(*q));
            self.partial.retain(|q, _| !m.covers(*q));
            self.adv(l);
        }
        if let Some((s, n)) = s {
            self.ack_batch(p, s, n, l);
        }
    }
    pub fn ack_set_of(&self, p: Position) -> Option<Vec<u64>> {
        self.partial.get(&p).cloned()
    }
    pub fn ranges(&self) -> Vec<String> {
        vec![]
    }
    pub fn individually_acked(&self) -> u64 {
        self.acked.len() as u64
    }
    pub fn snapshot(&self) -> Snap {
        self.clone()
    }
}
fn key(env: &MlEnv) -> usize {
    std::sync::Arc::as_ptr(&env.metadata) as *const () as usize
}
impl CursorStore {
    pub async fn create(
        env: &MlEnv,
        _c: &MlConfig,
        ml: &str,
        n: &str,
        s: Snap,
        props: BTreeMap<String, String>,
    ) -> Result<Self, CursorError> {
        let key = (key(env), ml.into(), n.into());
        M.lock().unwrap().insert(Clone::clone(&key), (s, props.clone()));
        Ok(CursorStore { key, props })
    }
    pub async fn list(env: &MlEnv, ml: &str) -> Result<Vec<String>, CursorError> {
        Ok(M.lock().unwrap().keys().filter(|k| k.0 == key(env) && k.1 == ml).map(|k| k.2.clone()).collect())
    }
    pub async fn recover(
        env: &MlEnv,
        _c: &MlConfig,
        ml: &str,
        n: &str,
        _l: &LedgerList,
    ) -> Result<(Self, Cursor, BTreeMap<String, String>), CursorError> {
        let key = (key(env), ml.into(), n.into());
        let (c, p) = M.lock().unwrap()[&key].clone();
        Ok((CursorStore { key, props: p.clone() }, c, p))
    }
    pub async fn persist(&mut self, s: Snap) -> Result<(), CursorError> {
        tokio::task::yield_now().await;
        M.lock().unwrap().insert(self.key.clone(), (s, self.props.clone()));
        Ok(())
    }
    pub async fn close(mut self, s: Snap) -> Result<(), CursorError> {
        self.persist(s).await
    }
    pub async fn delete(self) -> Result<(), CursorError> {
        M.lock().unwrap().remove(&self.key);
        Ok(())
    }
}
