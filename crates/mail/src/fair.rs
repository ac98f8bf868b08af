//! Taking turns: what accounts have ready, served one account after the other, each in its own order.

use std::collections::VecDeque;

/// Who caused something, as far as turns are concerned: a hash of the account's name. Two that share one share their turn.
pub(crate) type Account = u32;

/// The number of an account's name (FNV-1a, folded to 32 bits).
pub(crate) fn account(name: &str) -> Account {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    u32::try_from((hash >> 32) ^ (hash & 0xffff_ffff)).expect("32 bits are left")
}

/// A queue for each account, served in turn.
#[derive(Debug)]
pub(crate) struct Fair<T> {
    /// By account; none is empty.
    flows: Vec<Flow<T>>,
    /// Who had the last turn: the next one is of the first account behind it, in a circle.
    served: Option<Account>,
    len: usize,
}

#[derive(Debug)]
struct Flow<T> {
    account: Account,
    waiting: VecDeque<T>,
    /// How many were taken in an alternating order.
    alternated: u32,
}

/// In which order what an account has waiting is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As it came.
    Coming,
    /// What came first and what came last, by turns.
    Alternating,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self::after(None)
    }
}

impl<T> Fair<T> {
    /// Nothing yet, and this account had the last turn.
    pub(crate) const fn after(served: Option<Account>) -> Self {
        Self { flows: Vec::new(), served, len: 0 }
    }

    /// Who had the last turn.
    pub(crate) const fn served(&self) -> Option<Account> {
        self.served
    }

    /// Whose turn it is, by its place.
    fn turn(&self) -> usize {
        let behind = self.flows.partition_point(|flow| Some(flow.account) <= self.served);
        if behind == self.flows.len() { 0 } else { behind }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds something behind all that its account has waiting.
    pub(crate) fn push(&mut self, account: Account, one: T) {
        self.len += 1;
        match self.flows.binary_search_by_key(&account, |flow| flow.account) {
            Ok(at) => self.flows[at].waiting.push_back(one),
            Err(at) => {
                self.flows.insert(at, Flow { account, waiting: VecDeque::from([one]), alternated: 0 });
            }
        }
    }

    /// Adds something behind the last that goes before it of what its account has waiting, as far as that is in this order: what no node
    /// could take has come to wait again at the end.
    pub(crate) fn insert(&mut self, account: Account, one: T, goes_before: impl Fn(&T) -> bool) {
        match self.flows.binary_search_by_key(&account, |flow| flow.account) {
            Ok(at) => {
                let waiting = &mut self.flows[at].waiting;
                waiting.insert(waiting.partition_point(goes_before), one);
                self.len += 1;
            }
            Err(_) => self.push(account, one),
        }
    }

    /// Takes at most `most` of the account whose turn it is, and passes the turn on.
    pub(crate) fn take(&mut self, most: usize, into: &mut Vec<T>) {
        let turn = self.turn();
        let Some(flow) = self.flows.get_mut(turn) else { return };
        let some = flow.waiting.len().min(most);
        into.extend(flow.waiting.drain(..some));
        self.len -= some;
        self.was_served(turn);
    }

    /// Gives back the last of what was taken of an account, in its order: it is first again when that account's turn comes.
    pub(crate) fn put_back(&mut self, account: Account, some: Vec<T>) {
        if some.is_empty() {
            return;
        }
        let at = self.flows.binary_search_by_key(&account, |flow| flow.account).unwrap_or_else(|at| {
            self.flows.insert(at, Flow { account, waiting: VecDeque::new(), alternated: 0 });
            at
        });
        self.len += some.len();
        for one in some.into_iter().rev() {
            self.flows[at].waiting.push_front(one);
        }
    }

    fn was_served(&mut self, at: usize) {
        let flow = &mut self.flows[at];
        self.served = Some(flow.account);
        if flow.waiting.is_empty() {
            self.flows.remove(at);
        } else if flow.waiting.len() * 4 < flow.waiting.capacity() {
            flow.waiting.shrink_to(flow.waiting.len() * 2);
        }
    }

    /// Takes one of the next account that may have its turn; those before it that may not stay behind it.
    pub(crate) fn pop_of(&mut self, may: impl Fn(Account) -> bool, order: Order) -> Option<(Account, T)> {
        let turn = self.turn();
        let next = (turn..self.flows.len()).chain(0..turn).find(|at| may(self.flows[*at].account))?;
        let Flow { account, waiting, alternated } = &mut self.flows[next];
        let account = *account;
        *alternated = alternated.wrapping_add(u32::from(order == Order::Alternating));
        let is_first = order == Order::Coming || alternated.is_multiple_of(2);
        let one = if is_first { waiting.pop_front() } else { waiting.pop_back() }?;
        self.len -= 1;
        self.was_served(next);
        Some((account, one))
    }

    /// All accounts that have something waiting, from the one whose turn it is.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = Account> {
        let (before, from) = self.flows.split_at(self.turn());
        from.iter().chain(before).map(|flow| flow.account)
    }

    /// Takes the next one.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let mut one = Vec::with_capacity(1);
        self.take(1, &mut one);
        one.pop()
    }

    /// Takes out all for which `out` says so.
    pub(crate) fn take_out(
        &mut self,
        mut out: impl FnMut(Account, &T) -> bool,
        into: &mut Vec<(Account, T)>,
    ) {
        let before = into.len();
        for flow in &mut self.flows {
            let account = flow.account;
            for _ in 0..flow.waiting.len() {
                let one = flow.waiting.pop_front().expect("it was counted");
                if out(account, &one) {
                    into.push((account, one));
                } else {
                    flow.waiting.push_back(one);
                }
            }
        }
        self.len -= into.len() - before;
        self.flows.retain(|flow| !flow.waiting.is_empty());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.flows.iter().flat_map(|flow| &flow.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_take_turns_and_keep_their_own_order() {
        let mut fair = Fair::default();
        for n in 0..100 {
            fair.push(7, ('b', n));
        }
        let mut some = Vec::new();
        fair.take(20, &mut some);
        assert_eq!(some.len(), 20);
        fair.push(3, ('a', 0));
        fair.push(9, ('c', 0));
        fair.push(9, ('c', 1));
        let order: Vec<_> = std::iter::from_fn(|| fair.pop()).take(6).collect();
        assert!(order[..3].contains(&('a', 0)) && order[..3].contains(&('c', 0)), "{order:?}");
        assert!(order[3..].contains(&('c', 1)), "{order:?}");
        let bulk: Vec<_> = order.iter().filter(|(who, _)| *who == 'b').collect();
        assert!(bulk.is_sorted() && bulk[0].1 == 20, "{order:?}");
        assert_eq!(fair.len(), 100 - 20 - bulk.len());
    }

    #[test]
    fn one_that_comes_while_another_is_served_alone_is_next() {
        for late in [0, 5, 99] {
            let mut fair = Fair::default();
            for n in 0..1000 {
                fair.push(50, n);
            }
            fair.pop();
            fair.push(late, 5000);
            assert_eq!([fair.pop(), fair.pop()], [Some(5000), Some(1)], "{late}");
            // What comes again and again does not keep the other one from its turns.
            for n in 0..10 {
                fair.push(late, 6000 + n);
                assert_eq!([fair.pop(), fair.pop()], [Some(6000 + n), Some(2 + n)], "{late}");
            }
        }
    }

    #[test]
    fn who_has_the_turn_keeps_it_while_some_are_taken_out() {
        let mut fair = Fair::default();
        for n in 0..6 {
            fair.push(7, ('a', n));
            fair.push(50, ('b', n));
        }
        let mut order = Vec::new();
        while let Some((who, _)) = fair.pop() {
            order.push(who);
            fair.take_out(|_, (_, n)| *n == 100, &mut Vec::new());
        }
        assert_eq!(order, "abababababab".chars().collect::<Vec<_>>());
    }

    #[test]
    fn one_that_was_served_and_comes_again_first_is_served_behind_another() {
        for other in [7, 99] {
            let mut fair = Fair::default();
            fair.push(50, 1);
            fair.pop();
            fair.push(50, 2);
            fair.push(other, 3);
            assert_eq!([fair.pop(), fair.pop()], [Some(3), Some(2)], "{other}");
        }
    }

    #[test]
    fn one_that_always_comes_back_takes_no_more_than_its_turn() {
        for other in [0, 9] {
            let mut fair = Fair::default();
            fair.push(other, 'a');
            for _ in 0..10 {
                fair.push(5, 'b');
            }
            let mut order = String::new();
            for _ in 0..8 {
                let one = fair.pop().unwrap();
                order.push(one);
                if one == 'a' {
                    fair.push(other, 'a');
                }
            }
            assert!(!order.contains("aa") && !order.contains("bb"), "{order}");
        }
    }

    #[test]
    fn what_is_taken_out_leaves_the_rest_in_order() {
        let mut fair = Fair::default();
        for n in 0..10 {
            fair.push(n % 2, n);
        }
        let mut out = Vec::new();
        fair.take_out(|_, n| *n >= 4 && *n != 9, &mut out);
        assert_eq!((out.len(), fair.len()), (5, 5));
        let mut left: Vec<_> = std::iter::from_fn(|| fair.pop()).collect();
        left.sort_unstable();
        assert_eq!(left, [0, 1, 2, 3, 9]);
        assert!(fair.is_empty() && fair.accounts().next().is_none());
    }

    #[test]
    fn what_is_put_back_is_first_again() {
        let mut fair = Fair::default();
        for n in 0..4 {
            fair.push(7, n);
        }
        fair.push(9, 100);
        let mut some = Vec::new();
        fair.take(4, &mut some);
        fair.put_back(7, some.split_off(1));
        fair.put_back(8, Vec::new());
        assert_eq!(fair.len(), 4);
        assert_eq!(std::iter::from_fn(|| fair.pop()).collect::<Vec<_>>(), [100, 1, 2, 3]);
        assert!(fair.is_empty());
    }

    #[test]
    fn different_names_are_different_accounts() {
        let numbers: std::collections::HashSet<_> =
            (0..1000).map(|n| account(&format!("192.0.2.{n}"))).collect();
        assert_eq!(numbers.len(), 1000);
    }
}
