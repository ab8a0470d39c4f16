//! A list that allocates only when it gets long.

use alloc::vec::Vec;

/// Elements held without an allocation.
pub(crate) const FEW: usize = 4;

/// A list whose first elements lie in place: nearly always there is one socket and one future to think of.
pub(crate) struct Few<T> {
    first: [Option<T>; FEW],
    more: Vec<T>,
}

impl<T> Few<T> {
    pub(crate) const fn new() -> Self {
        Self {
            first: [const { None }; FEW],
            more: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, element: T) {
        match self.first.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(element),
            None => self.more.push(element),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }

    /// The elements in the order in which they came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().flatten().chain(&self.more)
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = core::iter::Chain<
        core::iter::Flatten<core::array::IntoIter<Option<T>, FEW>>,
        alloc::vec::IntoIter<T>,
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().flatten().chain(self.more)
    }
}

impl<T> Extend<T> for Few<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        elements.into_iter().for_each(|element| self.push(element));
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut few = Self::new();
        few.extend(elements);
        few
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_order_however_many_there_are() {
        for count in [0, 1, FEW, FEW + 1, 3 * FEW] {
            let few: Few<usize> = (0..count).collect();
            assert_eq!(few.len(), count);
            assert!(few.iter().copied().eq(0..count));
            assert!(few.into_iter().eq(0..count));
        }
    }
}
