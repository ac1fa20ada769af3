/// \file
/// RNN, LSTM and GRU: a work-group walks along the sequence of one event, with its state in local memory.
#ifndef SOFIE_DEVICE_RECURRENT_HXX
#define SOFIE_DEVICE_RECURRENT_HXX

#include "sofie/device/functions.hxx"

namespace sofie {
namespace device {

/// alpha * x + beta
struct Affine {
   double alpha = 1, beta = 0;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T x) const
   {
      return static_cast<T>(alpha) * x + static_cast<T>(beta);
   }
};

/// alpha * tanh(beta * x)
struct ScaledTanh {
   double alpha = 1, beta = 1;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x) const
   {
      return static_cast<T>(alpha) * m.tanh(static_cast<T>(beta) * x);
   }
};

/// x from alpha on, 0 below.
struct GateThreshold {
   double alpha = 1;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T x) const
   {
      return x < static_cast<T>(alpha) ? T(0) : x;
   }
};

/// Which cell it is; the gates of a linear GRU see the product with the state before it is reset.
enum class Cell { rnn, lstm, gru, linear_gru };

/// What there is, and how the tensors are laid out.
template <Cell Kind, bool Bias, bool Lengths, bool State, bool CellState, bool Peepholes, bool Sequence, int Outputs>
struct RecurrentForm {
   static constexpr Cell kind = Kind;
   static constexpr bool bias = Bias, lengths = Lengths, state = State, cell_state = CellState;
   static constexpr bool peepholes = Peepholes, sequence = Sequence; ///< sequence: all states are written
   static constexpr int outputs = Outputs;
   static constexpr int gates = Kind == Cell::rnn ? 1 : Kind == Cell::lstm ? 4 : 3;
};

/// The weights of a layer with its offsets, the states before the first step, and the peepholes.
template <class T>
struct RecurrentWeights {
   const T *w, *r, *b, *first, *first_cell, *peepholes;
};

/// One direction of a layer with `Hidden` states; y[t], the last h and the last c. Arrays that a form lacks are any
/// others, which are not touched.
template <class T, class Form, int Hidden, class F, class G, class H>
struct Recurrent {
   F f;
   G g;
   H h;
   double clip; ///< 0 for none
   Index steps, batch, inputs;
   Index x_step, x_batch;     ///< strides of x
   Index y_step, y_batch;     ///< strides of all states
   Index last_batch;          ///< and of a last one
   Index y_begin, last_begin; ///< where those of this direction begin
   Index number;              ///< of the direction
   bool reverse, input_forget;

   static constexpr int items = Hidden <= 32 ? 32 : Hidden <= 64 ? 64 : 128;
   static constexpr int gates = Form::gates;
   static constexpr auto width = static_cast<std::size_t>(Hidden);
   struct Local {
      T state[width], cell[width], next[width], beside[width];
      T sums[static_cast<std::size_t>(gates) * width];
   };

   template <class Group, class L, class... Weight>
   SOFIE_DEVICE void operator()(Group &group, T *y, T *last, T *last_cell, const T *x, const L *lengths,
                                const Weight *...weights) const
   {
      RecurrentWeights<T> of{weights...};
      const typename Group::MathOfIt m{};
      auto &local = group.local();
      const Index row = group.index();
      of.w += number * gates * Hidden * inputs;
      of.r += number * gates * Hidden * Hidden;
      of.b += Form::bias ? number * 2 * gates * Hidden : 0;
      of.peepholes += Form::peepholes ? number * 3 * Hidden : 0;
      const Index end = length(lengths, row), start = last_begin + row * last_batch;
      group.each([&](int item) {
         for (int j = item; j < Hidden; j += items) {
            local.state[j] = Form::state ? of.first[start + j] : T(0);
            local.cell[j] = Form::cell_state ? of.first_cell[start + j] : T(0);
         }
      });
      for (Index step = 0; step < steps; ++step) {
         const Index time = reverse && step < end ? end - 1 - step : step;
         [[maybe_unused]] T *const at_time = y + y_begin + time * y_step + row * y_batch;
         if (step < end) {
            advance(group, m, local, x + time * x_step + row * x_batch, of);
            group.each([&](int item) {
               for (int j = item; j < Hidden; j += items) {
                  local.state[j] = local.next[j];
                  if constexpr (Form::sequence)
                     at_time[j] = local.next[j];
               }
            });
         } else if constexpr (Form::sequence) {
            group.last([&](int item) {
               for (int j = item; j < Hidden; j += items)
                  at_time[j] = T(0);
            });
         }
      }
      group.last([&](int item) {
         for (int j = item; j < Hidden; j += items) {
            if constexpr (Form::outputs > 1)
               last[start + j] = local.state[j];
            if constexpr (Form::outputs > 2)
               last_cell[start + j] = local.cell[j];
         }
      });
   }

private:
   template <class L>
   SOFIE_DEVICE Index length(const L *lengths, Index row) const
   {
      if constexpr (!Form::lengths)
         return steps;
      else
         return static_cast<Index>(lengths[row]) < steps ? static_cast<Index>(lengths[row]) : steps;
   }

   /// Sum number i of all gates: x W, h R, and the offsets of both.
   SOFIE_DEVICE T of_input(Index i, const T *x, const T *w, const T *b) const
   {
      T sum = Form::bias ? b[i] : T(0);
      for (Index k = 0; k < inputs; ++k)
         sum += x[k] * w[i * inputs + k];
      return sum;
   }
   SOFIE_DEVICE T of_state(Index i, const T *state, const T *r, const T *b) const
   {
      T sum = Form::bias ? b[gates * Hidden + i] : T(0);
      for (Index k = 0; k < Hidden; ++k)
         sum += state[k] * r[i * Hidden + k];
      return sum;
   }
   SOFIE_DEVICE T clipped(T x) const
   {
      const T most = static_cast<T>(clip);
      return clip == 0 ? x : minimum(maximum(x, -most), most);
   }

   template <class Group, class M>
   SOFIE_DEVICE void advance(Group &group, M m, Local &local, const T *x, const RecurrentWeights<T> &of) const
   {
      constexpr bool gru = Form::kind == Cell::gru || Form::kind == Cell::linear_gru;
      group.each([&](int item) {
         for (int i = item; i < gates * Hidden; i += items) {
            local.sums[i] = of_input(i, x, of.w, of.b);
            // What the last gate of a GRU sees of the state comes later, or apart.
            if (!gru || i < 2 * Hidden)
               local.sums[i] += of_state(i, local.state, of.r, of.b);
         }
      });
      if constexpr (gru)
         reset(group, m, local, of.r, of.b);
      group.each([&](int item) {
         for (int j = item; j < Hidden; j += items)
            local.next[j] = stepped(m, local, j, of.peepholes);
      });
   }

   /// The state behind the reset gate, in the sums of the last gate.
   template <class Group, class M>
   SOFIE_DEVICE void reset(Group &group, M m, Local &local, const T *r, const T *b) const
   {
      group.each([&](int item) {
         for (int j = item; j < Hidden; j += items) {
            const T gate = f(m, clipped(local.sums[Hidden + j]));
            local.beside[j] = Form::kind == Cell::gru ? gate * local.state[j] : gate;
         }
      });
      group.each([&](int item) {
         for (int j = item; j < Hidden; j += items) {
            if constexpr (Form::kind == Cell::gru)
               local.sums[2 * Hidden + j] += of_state(2 * Hidden + j, local.beside, r, b);
            else
               local.sums[2 * Hidden + j] += local.beside[j] * of_state(2 * Hidden + j, local.state, r, b);
         }
      });
   }

   template <class M>
   SOFIE_DEVICE T stepped(M m, Local &local, int j, const T *peepholes) const
   {
      if constexpr (Form::kind == Cell::rnn) {
         return f(m, clipped(local.sums[j]));
      } else if constexpr (Form::kind == Cell::lstm) {
         const T cell = local.cell[j];
         const T i = f(m, clipped(local.sums[j] + seen(peepholes, 0, j, cell)));
         const T forget =
            input_forget ? T(1) - i : f(m, clipped(local.sums[2 * Hidden + j] + seen(peepholes, 2, j, cell)));
         const T fresh = forget * cell + i * g(m, clipped(local.sums[3 * Hidden + j]));
         local.cell[j] = fresh;
         return f(m, clipped(local.sums[Hidden + j] + seen(peepholes, 1, j, fresh))) * h(m, clipped(fresh));
      } else {
         const T z = f(m, clipped(local.sums[j]));
         return (T(1) - z) * g(m, clipped(local.sums[2 * Hidden + j])) + z * local.state[j];
      }
   }
   SOFIE_DEVICE static T seen(const T *peepholes, int gate, int j, T cell)
   {
      if constexpr (Form::peepholes)
         return peepholes[gate * Hidden + j] * cell;
      else
         return T(0);
   }
};

} // namespace device
} // namespace sofie

#endif
