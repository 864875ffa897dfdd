#pragma once
/* What the tables of policy/parse cannot see: whether an object means something. Pure. */

#include "base/arena.h"
#include "policy/model.h"
#include "policy/object.h"
#include "policy/problem.h"

/* Checks one object by itself: weights that sum to 0, regular expressions, names, durations, fields
 * that exclude each other. Errors go to `problems`; false when there was one. */
bool policy_validate_object(const struct object *object, struct policy_problems *problems) MUST_USE;

/* Checks how the objects of a picture go together: subsets that nobody defines and hosts that do
 * not exist (PENDING), weighted subsets without endpoints, with the share that fails, several
 * VirtualServices or DestinationRules for one host, ports that a service does not have (WARNING).
 */
void policy_validate_model(const struct model *model, struct policy_problems *problems);
