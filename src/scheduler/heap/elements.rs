//! Where the elements of the heap are kept: slots, and lists of cells that name them.
//!
//! An element stays in its slot from its first day to its last, so a handle can name it. A
//! slot knows its *place*: the node that the element leads, or the cell that is its own. A
//! cell whose slot is placed elsewhere is *dead*. Nobody looks for it when that happens; it
//! is dropped when its list is walked.

/// No slot, no cell, no node.
pub(super) const NIL: u32 = u32::MAX;

/// In a slot's place: the rest is the node that the element leads, else it is a cell.
const LEADS: u32 = 1 << 31;

/// The most elements. There are at most four times as many cells, and a few; `LEADS` must not
/// be among their numbers.
const MAX_SLOTS: u32 = 1 << 28;

/// Names one element for as long as it is in the heap that gave the handle out.
///
/// The generation tells a slot's later tenants apart, so a handle that outlived its element
/// is refused and never means another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle {
    pub(super) index: u32,
    generation: u32,
}

/// Room for an element.
#[derive(Debug, Clone)]
enum Slot<K, V> {
    Free { generation: u32, next: u32 },
    Live { generation: u32, place: u32, key: K, value: V },
}

/// A link of a list of slots, or of the list of free cells.
#[derive(Debug, Clone, Copy)]
struct Cell {
    slot: u32,
    next: u32,
}

/// The elements of one heap, and the cells of all its lists.
#[derive(Debug, Clone)]
pub(super) struct Elements<K, V> {
    slots: Vec<Slot<K, V>>,
    free_slot: u32,
    live: usize,
    cells: Vec<Cell>,
    free_cell: u32,
}

impl<K, V> Default for Elements<K, V> {
    fn default() -> Self {
        Self { slots: Vec::new(), free_slot: NIL, live: 0, cells: Vec::new(), free_cell: NIL }
    }
}

impl<K, V> Elements<K, V> {
    /// The number of live elements.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// The slot that the next element goes to, off the free list; `fill` comes next.
    pub(super) fn reserve(&mut self) -> Handle {
        let index = self.free_slot;
        if index == NIL {
            let index = self.slots.len() as u32;
            assert!(index < MAX_SLOTS, "a heap holds at most 2^28 elements");
            return Handle { index, generation: 0 };
        }
        let Slot::Free { generation, next } = self.slots[index as usize] else {
            unreachable!("the free list holds free slots only")
        };
        self.free_slot = next;
        Handle { index, generation }
    }

    /// Brings the element that a slot was reserved for, and its own cell.
    pub(super) fn fill(&mut self, reserved: Handle, cell: u32, key: K, value: V) {
        let Handle { index, generation } = reserved;
        let live = Slot::Live { generation, place: cell, key, value };
        if index as usize == self.slots.len() {
            self.slots.push(live);
        } else {
            self.slots[index as usize] = live;
        }
        self.live += 1;
    }

    /// Empties a slot. One whose generations are used up retires.
    pub(super) fn vacate(&mut self, slot: u32) -> (K, V) {
        let place = &mut self.slots[slot as usize];
        let (Slot::Live { generation, .. } | Slot::Free { generation, .. }) = *place;
        let free = Slot::Free { generation: generation.wrapping_add(1), next: self.free_slot };
        let Slot::Live { key, value, .. } = std::mem::replace(place, free) else {
            unreachable!("only live slots are vacated")
        };
        if generation != u32::MAX {
            self.free_slot = slot;
        }
        self.live -= 1;
        (key, value)
    }

    /// The slot of an element that is still here.
    pub(super) fn resolve(&self, handle: Handle) -> Option<u32> {
        match self.slots.get(handle.index as usize)? {
            Slot::Live { generation, .. } if *generation == handle.generation => Some(handle.index),
            _ => None,
        }
    }

    pub(super) fn entry(&self, slot: u32) -> Option<(&K, &V)> {
        match &self.slots[slot as usize] {
            Slot::Live { key, value, .. } => Some((key, value)),
            Slot::Free { .. } => None,
        }
    }

    pub(super) fn key(&self, slot: u32) -> &K {
        match &self.slots[slot as usize] {
            Slot::Live { key, .. } => key,
            Slot::Free { .. } => unreachable!("only live slots lead or wait"),
        }
    }

    /// Gives an element another key, and another cell for its own.
    #[inline]
    pub(super) fn set_key_and_cell(&mut self, slot: u32, new_key: K, cell: u32) {
        match &mut self.slots[slot as usize] {
            Slot::Live { key, place, .. } => (*key, *place) = (new_key, cell),
            Slot::Free { .. } => unreachable!("only live slots get a new key"),
        }
    }

    pub(super) fn set_key(&mut self, slot: u32, new: K) {
        match &mut self.slots[slot as usize] {
            Slot::Live { key, .. } => *key = new,
            Slot::Free { .. } => unreachable!("only live slots get a new key"),
        }
    }

    pub(super) fn set_leads(&mut self, slot: u32, node: u32) {
        self.set_place(slot, LEADS | node);
    }

    fn set_place(&mut self, slot: u32, new: u32) {
        match &mut self.slots[slot as usize] {
            Slot::Live { place, .. } => *place = new,
            Slot::Free { .. } => unreachable!("only live slots have a place"),
        }
    }

    /// The node that an element leads.
    pub(super) fn led_by(&self, slot: u32) -> Option<u32> {
        match &self.slots[slot as usize] {
            Slot::Live { place, .. } if place & LEADS != 0 => Some(place & !LEADS),
            _ => None,
        }
    }

    fn is_own_cell(&self, slot: u32, cell: u32) -> bool {
        matches!(&self.slots[slot as usize], Slot::Live { place, .. } if *place == cell)
    }
}

/// The lists.
impl<K, V> Elements<K, V> {
    /// Puts a slot before a list. The caller makes the cell its own.
    #[inline]
    pub(super) fn add_cell(&mut self, slot: u32, next: u32) -> u32 {
        let cell = Cell { slot, next };
        match self.cells.get_mut(self.free_cell as usize) {
            Some(free) => {
                let index = self.free_cell;
                self.free_cell = std::mem::replace(free, cell).next;
                index
            }
            None => {
                self.cells.push(cell);
                (self.cells.len() - 1) as u32
            }
        }
    }

    /// Puts a cell behind the last one of a list.
    #[inline]
    pub(super) fn append(&mut self, last: u32, cell: u32) {
        self.cells[last as usize].next = cell;
    }

    /// Makes a list of live slots that are in none.
    pub(super) fn list(&mut self, slots: &[u32]) -> u32 {
        // Cells just freed come back last first: from the back, the list lies in order.
        let mut list = NIL;
        for &slot in slots.iter().rev() {
            list = self.add_cell(slot, list);
            self.set_place(slot, list);
        }
        list
    }

    /// Whether the next cell takes more memory.
    #[inline]
    pub(super) fn cells_are_full(&self) -> bool {
        self.free_cell == NIL && self.cells.len() == self.cells.capacity()
    }

    #[cfg(test)]
    pub(super) fn cell_count(&self) -> usize {
        self.cells.len()
    }

    /// Whether more cells are dead than slots were ever used.
    pub(super) fn most_cells_are_dead(&self) -> bool {
        self.cells.len() > 2 * self.slots.len()
    }

    fn free_cell(&mut self, cell: u32) {
        self.cells[cell as usize].next = std::mem::replace(&mut self.free_cell, cell);
    }

    /// Takes cells off a list up to the first live one: its slot, which the caller places
    /// anew, and the rest of the list.
    pub(super) fn first_live(&mut self, mut list: u32) -> (Option<u32>, u32) {
        while list != NIL {
            let Cell { slot, next } = self.cells[list as usize];
            let live = self.is_own_cell(slot, list);
            self.free_cell(list);
            if live {
                return (Some(slot), next);
            }
            list = next;
        }
        (None, NIL)
    }

    /// The first and the last cell of what is live of a list.
    pub(super) fn without_dead(&mut self, mut list: u32) -> (u32, u32) {
        let (mut first, mut last) = (NIL, NIL);
        while list != NIL {
            let Cell { slot, next } = self.cells[list as usize];
            if !self.is_own_cell(slot, list) {
                self.free_cell(list);
            } else {
                self.cells[list as usize].next = NIL;
                if last == NIL {
                    first = list;
                } else {
                    self.cells[last as usize].next = list;
                }
                last = list;
            }
            list = next;
        }
        (first, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_element_takes_28_bytes() {
        assert_eq!(size_of::<Slot<u8, (u32, u32)>>() + size_of::<Cell>(), 28);
    }

    #[test]
    fn a_slot_retires_when_its_generations_are_used_up() {
        let mut elements = Elements::default();
        let first = elements.reserve();
        elements.fill(first, NIL, 1, ());
        elements.vacate(first.index);
        elements.slots[0] = Slot::Free { generation: u32::MAX, next: NIL };
        let last = elements.reserve();
        assert_eq!((last.index, last.generation), (0, u32::MAX));
        elements.fill(last, NIL, 1, ());
        elements.vacate(last.index);
        assert_eq!(elements.resolve(last), None);
        assert_eq!(elements.reserve().index, 1);
    }

    #[test]
    fn a_walk_drops_the_dead_and_frees_their_cells() {
        let mut elements = Elements::default();
        let slots: Vec<u32> = (0..6)
            .map(|key| {
                let handle = elements.reserve();
                elements.fill(handle, NIL, key, ());
                handle.index
            })
            .collect();
        let list = elements.list(&slots);
        for dead in [0, 3, 5] {
            elements.vacate(dead);
        }
        let (first, last) = elements.without_dead(list);
        assert_eq!(
            (elements.cells[first as usize].slot, elements.cells[last as usize].slot),
            (1, 4)
        );
        let (one, list) = elements.first_live(first);
        elements.vacate(2);
        let (four, list) = elements.first_live(list);
        assert_eq!((one, four, elements.first_live(list)), (Some(1), Some(4), (None, NIL)));
        let all = elements.list(&[1, 4]);
        assert!(elements.cells.len() == 6 && all != NIL);
    }
}
