/// The column of 03_particlenet.py in C++: the particles of a jet in the form of the network.
#include <ROOT/RVec.hxx>

#include "particlenet.hxx"
#include "sofie/rdf/functor.hxx"

using Particles = ROOT::RVec<float>;

/// One number for each particle of a jet that is made up.
inline Particles made_up(unsigned long long jet, float scale, float speed)
{
   Particles x(5 + jet * 7 % 60);
   for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = scale * std::sin(speed * static_cast<float>(i + 1) + static_cast<float>(jet));
   return x;
}

class JetTagger {
   using Session = TMVA_SOFIE_particlenet::Session;
   sofie::Slots<Session> sessions_; // One for each slot; they share the weights.
   std::size_t features_, classes_;

public:
   JetTagger(unsigned slots, const std::string &weights, std::size_t features, std::size_t classes)
      : sessions_(Session(weights), slots), features_(features), classes_(classes)
   {
   }
   Particles operator()(unsigned slot, Particles pt, Particles eta, Particles phi)
   {
      // A particle needs 16 neighbours: a jet of fewer is filled up with what the mask says is none.
      const std::size_t n = pt.size() > 24 ? pt.size() : 24;
      Particles points(2 * n), features(features_ * n), mask(n), scores(classes_);
      for (std::size_t i = 0; i < pt.size(); ++i) {
         mask[i] = 1;
         points[i] = eta[i];
         points[n + i] = phi[i];
         for (std::size_t k = 0; k < features_; ++k) // A network that was trained wants its own.
            features[k * n + i] = k % 3 == 0 ? pt[i] : k % 3 == 1 ? eta[i] : phi[i];
      }
      sessions_[slot].infer(1, n, points.data(), features.data(), mask.data(), scores.data());
      return scores;
   }
};
