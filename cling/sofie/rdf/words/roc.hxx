/// \file
/// TMVA::ROCCurve, which the tutorials of SOFIE draw: the efficiency for signal against the rejection of background.
#ifndef SOFIE_RDF_WORDS_ROC_HXX
#define SOFIE_RDF_WORDS_ROC_HXX

#include "sofie/target.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <TGraph.h>
#include <algorithm>
#endif

namespace TMVA {

/// The curve of all cuts on a score, from events with weights.
class ROCCurve {
   struct Event {
      float score;
      double signal, background;
      bool operator<(const Event &other) const { return score > other.score; }
   };
   // Of every cut, the loosest last: the parts of signal and of background above it.
   std::vector<double> signal_ = {0}, background_ = {0};
   std::unique_ptr<TGraph> graph_;

   void sum(std::vector<Event> events)
   {
      double signal = 0, background = 0;
      for (const Event &event : events) {
         signal += event.signal;
         background += event.background;
      }
      if (!(signal > 0) || !(background > 0))
         throw std::invalid_argument("TMVA::ROCCurve needs events of signal and of background");
      std::sort(events.begin(), events.end());
      double above = 0, wrong = 0;
      for (std::size_t i = 0; i < events.size(); ++i) {
         above += events[i].signal;
         wrong += events[i].background;
         // Events of one score are on the same side of every cut, and some weigh nothing.
         const bool moves = above / signal != signal_.back() || wrong / background != background_.back();
         if (moves && (i + 1 == events.size() || events[i + 1].score != events[i].score)) {
            signal_.push_back(above / signal);
            background_.push_back(wrong / background);
         }
      }
   }

   static double weight(const std::vector<float> &weights, std::size_t i) { return weights.empty() ? 1 : weights[i]; }
   static void require(bool fits)
   {
      if (!fits)
         throw std::invalid_argument("TMVA::ROCCurve: scores, targets and weights differ in number");
   }

public:
   /// Scores of signal and of background, each with its weights (1: empty).
   ROCCurve(const std::vector<float> &signal, const std::vector<float> &background,
            const std::vector<float> &signalWeights = {}, const std::vector<float> &backgroundWeights = {})
   {
      require(signalWeights.empty() || signalWeights.size() == signal.size());
      require(backgroundWeights.empty() || backgroundWeights.size() == background.size());
      std::vector<Event> events;
      for (std::size_t i = 0; i < signal.size(); ++i)
         events.push_back({signal[i], weight(signalWeights, i), 0});
      for (std::size_t i = 0; i < background.size(); ++i)
         events.push_back({background[i], 0, weight(backgroundWeights, i)});
      sum(std::move(events));
   }
   /// Scores, and which of them are of signal.
   ROCCurve(const std::vector<float> &scores, const std::vector<bool> &targets, const std::vector<float> &weights = {})
   {
      require(targets.size() == scores.size() && (weights.empty() || weights.size() == scores.size()));
      std::vector<Event> events;
      for (std::size_t i = 0; i < scores.size(); ++i)
         events.push_back({scores[i], targets[i] ? weight(weights, i) : 0, targets[i] ? 0 : weight(weights, i)});
      sum(std::move(events));
   }

   /// The efficiency for signal where so much of the background is left, between cuts on a straight line.
   double GetEffSForEffB(double left, unsigned = 0) const
   {
      for (std::size_t i = 1; i < background_.size(); ++i)
         if (background_[i] >= left) {
            const double step = background_[i] - background_[i - 1];
            const double part = step > 0 ? (left - background_[i - 1]) / step : 1;
            return signal_[i - 1] + part * (signal_[i] - signal_[i - 1]);
         }
      return 1;
   }
   /// The area below the curve, exactly: the probability that signal has a higher score than background.
   double GetROCIntegral(unsigned = 0) const
   {
      double area = 0;
      for (std::size_t i = 1; i < signal_.size(); ++i)
         area += (background_[i] - background_[i - 1]) * (signal_[i] + signal_[i - 1]) / 2;
      return area;
   }
   /// The rejection of background against the efficiency for signal, for all cuts; it belongs to this object.
   TGraph *GetROCCurve(unsigned = 0)
   {
      graph_.reset(new TGraph(static_cast<int>(signal_.size())));
      for (std::size_t i = 0; i < signal_.size(); ++i)
         graph_->SetPoint(static_cast<int>(i), signal_[i], 1 - background_[i]);
      return graph_.get();
   }
};

} // namespace TMVA

#endif
