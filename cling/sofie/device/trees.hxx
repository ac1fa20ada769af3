/// \file
/// Ensembles of decision trees: a work-item walks down all trees for one event and one target.
#ifndef SOFIE_DEVICE_TREES_HXX
#define SOFIE_DEVICE_TREES_HXX

#include "sofie/device/base.hxx"

namespace sofie {
namespace device {

// What the leaves say becomes one number.

struct TreeSum {
   SOFIE_DEVICE static double start() { return 0; }
   SOFIE_DEVICE static double joined(double total, double weight) { return total + weight; }
   SOFIE_DEVICE static double finished(double total, Index) { return total; }
};
struct TreeAverage : TreeSum {
   SOFIE_DEVICE static double finished(double total, Index trees)
   {
      return total / static_cast<double>(trees ? trees : 1);
   }
};
/// NaN stands for a target of which no leaf has said anything, which gets 0.
struct TreeExtremum {
   SOFIE_DEVICE static double start() { return HUGE_VAL - HUGE_VAL; }
   SOFIE_DEVICE static double finished(double total, Index) { return total != total ? 0 : total; }
};
struct TreeMin : TreeExtremum {
   SOFIE_DEVICE static double joined(double total, double weight) { return total <= weight ? total : weight; }
};
struct TreeMax : TreeExtremum {
   SOFIE_DEVICE static double joined(double total, double weight) { return total >= weight ? total : weight; }
};

/// An ensemble as its nodes: the root of each tree; of each node a column, a threshold, a mode, two children, and where
/// what it says begins; of each such entry a target and a weight; and what each target begins with.
template <class T, class W>
struct TreeNodes {
   const std::int32_t *roots, *features;
   const T *thresholds;
   const std::uint8_t *modes;
   const std::int32_t *children, *starts, *target;
   const W *weights, *base;
};

/// y[n, k] = base[k] + what the leaves that x[n] falls to say of k. A node has a mode: 0 for a leaf, 1 where the value
/// is compared by <=, 2 by ==, and 128 more where NaN goes with the first child. Children come behind their parents:
/// trees in which that is not so give NaN.
template <class How>
struct Trees {
   Index columns, targets, trees, nodes;

   template <class At, class T, class W, class... Array>
   SOFIE_DEVICE void operator()(At at, W *y, const T *x, const Array *...arrays) const
   {
      const TreeNodes<T, W> of{arrays...};
      const Index wanted = at.index % targets;
      x += at.index / targets * columns;
      double total = How::start();
      bool sound = true;
      for (Index tree = 0; tree < trees && sound; ++tree) {
         Index node = of.roots[tree];
         sound = node >= 0 && node < nodes;
         while (sound && of.modes[node] != 0) {
            const Index next =
               following(x, of.features[node], of.thresholds[node], of.modes[node], of.children + 2 * node);
            sound = next > node && next < nodes;
            node = next;
         }
         for (Index entry = sound ? of.starts[node] : 0; sound && entry < of.starts[node + 1]; ++entry)
            if (of.target[entry] == wanted)
               total = How::joined(total, static_cast<double>(of.weights[entry]));
      }
      const double sum = How::finished(total, trees) + static_cast<double>(of.base[wanted]);
      y[at.index] = static_cast<W>(sound ? sum : HUGE_VAL - HUGE_VAL);
   }

private:
   /// The child that an event goes to; a column that does not exist gives -1.
   template <class T>
   SOFIE_DEVICE Index following(const T *x, Index column, T threshold, int mode, const std::int32_t *both) const
   {
      if (column < 0 || column >= columns)
         return -1;
      const T value = x[column];
      const bool first = value != value ? mode >= 128 : mode % 128 == 2 ? value == threshold : value <= threshold;
      return both[first ? 0 : 1];
   }
};

} // namespace device
} // namespace sofie

#endif
