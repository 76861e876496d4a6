using System.Globalization;

namespace GpuTasks.Functions;

/// <summary>What a change makes of a function's row. No clock, no I/O; a refused change gives the same row back.</summary>
public static class FunctionCore
{
    /// <summary>Most versions of one function.</summary>
    public const int MaxVersions = 100;

    private static readonly DateTimeOffset FirstRevisionAt = new(2025, 1, 1, 0, 0, 0, TimeSpan.Zero);

    /// <summary>Creates the function.</summary>
    public static (FunctionState Next, FunctionChange Outcome) Create(FunctionState state, string account, FunctionSpec spec, DateTimeOffset now)
    {
        if (state.Function is not null)
        {
            return (state, FunctionChange.AlreadyExists);
        }

        // Above all that an earlier function of this name can have had, so that none of its instances passes for one of ours.
        var revision = (int)Math.Clamp((now - FirstRevisionAt).TotalSeconds, 1, int.MaxValue / 2);
        return (new FunctionState
        {
            Function = new FunctionSnapshot
            {
                Account = account,
                Spec = spec,
                FunctionId = Guid.NewGuid().ToString(),
                Revision = revision,
                SpecRevision = revision,
                CreatedAt = now,
                ModifiedAt = now,
            },
        }, FunctionChange.Done);
    }

    /// <summary>Replaces the definition.</summary>
    public static (FunctionState Next, FunctionChange Outcome) Update(FunctionState state, FunctionSpec spec, int expectedRevision, DateTimeOffset now) =>
        Change(state, expectedRevision, f => f with { Spec = spec, SpecRevision = f.Revision + 1, ModifiedAt = now, ResolvedImage = null });

    /// <summary>Sets or removes the async config of a qualifier.</summary>
    public static (FunctionState Next, FunctionChange Outcome) SetAsyncConfig(
        FunctionState state, string qualifier, AsyncInvokeConfig? config, int expectedRevision, DateTimeOffset now) =>
        Change(state, expectedRevision, f =>
        {
            var before = f.AsyncConfigs.GetValueOrDefault(qualifier);
            return config is not null
                ? f with { AsyncConfigs = With(f.AsyncConfigs, qualifier, config with { CreatedAt = before?.CreatedAt ?? now, ModifiedAt = now }) }
                : before is null ? null : f with { AsyncConfigs = Without(f.AsyncConfigs, qualifier) };
        });

    /// <summary>Publishes the definition as the next version.</summary>
    public static (FunctionState Next, PublishAnswer Answer) Publish(FunctionState state, string description, DateTimeOffset now)
    {
        if (state.Function is not { } f || f.Versions.Count >= MaxVersions)
        {
            return (state, new PublishAnswer(state.Function is null ? FunctionChange.NotFound : FunctionChange.TooMany, null));
        }

        var number = state.LastVersion + 1;
        var version = new FunctionVersion(number.ToString(CultureInfo.InvariantCulture), description, now);
        return (state with
        {
            Function = f with { Versions = [.. f.Versions, version], Revision = f.Revision + 1 },
            Published = [.. state.Published, new PublishedDefinition(version.VersionId, f.Spec, f.SpecRevision, now) { ResolvedImage = f.ResolvedImage }],
            LastVersion = number,
        }, new PublishAnswer(FunctionChange.Done, version));
    }

    /// <summary>Removes a version with its configs.</summary>
    public static (FunctionState Next, FunctionChange Outcome) DeleteVersion(FunctionState state, string version, int expectedRevision)
    {
        var (next, outcome) = Change(state, expectedRevision, f => f.Versions.All(published => published.VersionId != version)
            ? null
            : f with
            {
                Versions = [.. f.Versions.Where(published => published.VersionId != version)],
                AsyncConfigs = Without(f.AsyncConfigs, version),
                Capacity = Without(f.Capacity, version),
            });
        return (outcome is FunctionChange.Done ? next with { Published = [.. next.Published.Where(published => published.VersionId != version)] } : next, outcome);
    }

    /// <summary>Sets an alias, or removes it with its configs.</summary>
    public static (FunctionState Next, FunctionChange Outcome) SetAlias(
        FunctionState state, string name, FunctionAlias? alias, int expectedRevision, DateTimeOffset now) =>
        Change(state, expectedRevision, f =>
        {
            var before = f.Aliases.GetValueOrDefault(name);
            return alias is not null
                ? f with { Aliases = With(f.Aliases, name, alias with { CreatedAt = before?.CreatedAt ?? now, ModifiedAt = now }) }
                : before is null ? null : f with { Aliases = Without(f.Aliases, name), AsyncConfigs = Without(f.AsyncConfigs, name), Capacity = Without(f.Capacity, name) };
        });

    /// <summary>Lets the function take calls or not.</summary>
    public static (FunctionState Next, FunctionChange Outcome) SetRestriction(FunctionState state, InvocationRestriction restriction, DateTimeOffset now) =>
        Change(state, state.Function?.Revision ?? 0, f => f with { Restriction = restriction with { ModifiedAt = now } });

    /// <summary>Sets how much of the function runs at most and at least.</summary>
    public static (FunctionState Next, FunctionChange Outcome) SetCapacity(FunctionState state, FunctionCapacity capacity, int expectedRevision) =>
        Change(state, expectedRevision, f => f with { Capacity = capacity });

    /// <summary>Notes the digest of a definition's image. It is no change that anybody could conflict with, so the revision stays.</summary>
    public static (FunctionState Next, FunctionChange Outcome) SetResolvedImage(FunctionState state, string? version, int specRevision, string image) =>
        Qualifiers.Resolve(state, version ?? "LATEST", "") is not { ResolvedImage: null } definition || definition.SpecRevision != specRevision
            ? (state, FunctionChange.NotFound)
            : (version is null
                ? state with { Function = state.Function! with { ResolvedImage = image } }
                : state with { Published = [.. state.Published.Select(published => published.VersionId == version ? published with { ResolvedImage = image } : published)] }, FunctionChange.Done);

    /// <summary>Replaces the tags.</summary>
    public static (FunctionState Next, FunctionChange Outcome) SetTags(FunctionState state, IReadOnlyDictionary<string, string> tags, int expectedRevision) =>
        Change(state, expectedRevision, f => f with { Spec = f.Spec with { Tags = tags } });

    private static (FunctionState Next, FunctionChange Outcome) Change(FunctionState state, int expectedRevision, Func<FunctionSnapshot, FunctionSnapshot?> change)
    {
        if (state.Function is not { } function)
        {
            return (state, FunctionChange.NotFound);
        }

        if (function.Revision != expectedRevision)
        {
            return (state, FunctionChange.Conflict);
        }

        return change(function) is { } next
            ? (state with { Function = next with { Revision = function.Revision + 1 } }, FunctionChange.Done)
            : (state, FunctionChange.NotFound);
    }

    private static FunctionCapacity Without(FunctionCapacity capacity, string qualifier) =>
        capacity with { Provision = Without(capacity.Provision, qualifier), Scaling = Without(capacity.Scaling, qualifier) };

    private static Dictionary<string, T> With<T>(IReadOnlyDictionary<string, T> all, string key, T value) => new(all) { [key] = value };

    private static Dictionary<string, T> Without<T>(IReadOnlyDictionary<string, T> all, string key) => new(all.Where(pair => pair.Key != key));
}
