using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace GpuTasks.Functions;

/// <summary>A published version: a definition that never changes again. Ids count from 1 and are never used twice.</summary>
/// <param name="VersionId">Decimal number.</param>
/// <param name="Description">Free text.</param>
/// <param name="CreatedAt">When it was published.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.FunctionVersion")]
public sealed record FunctionVersion(
    [property: Id(0)] string VersionId,
    [property: Id(1)] string Description,
    [property: Id(2)] DateTimeOffset CreatedAt);

/// <summary>A name for one version, or for several by weight.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.FunctionAlias")]
public sealed record FunctionAlias
{
    /// <summary>Version that gets the calls which the weights leave over.</summary>
    [Id(0)] public required string VersionId { get; init; }

    /// <summary>Free text.</summary>
    [Id(1)] public string Description { get; init; } = "";

    /// <summary>Further versions with their part of the calls: 0 to 1 each, at most 1 together.</summary>
    [Id(2)] public IReadOnlyDictionary<string, double> AdditionalWeights { get; init; } = new Dictionary<string, double>();

    /// <summary>When it was created.</summary>
    [Id(3)] public DateTimeOffset CreatedAt { get; init; }

    /// <summary>When it last changed.</summary>
    [Id(4)] public DateTimeOffset ModifiedAt { get; init; }

    /// <summary>The version that one call gets: each additional one in its weight's part of all calls.</summary>
    /// <param name="call">Id of the call, so that a repeat of it gets the same version.</param>
    public string Pick(string call)
    {
        if (AdditionalWeights.Count == 0)
        {
            return VersionId;
        }

        var hash = SHA256.HashData(Encoding.UTF8.GetBytes(call));
        var point = BinaryPrimitives.ReadUInt64LittleEndian(hash) / (double)ulong.MaxValue;
        foreach (var (version, weight) in AdditionalWeights.OrderBy(pair => pair.Key, StringComparer.Ordinal))
        {
            if (point < weight)
            {
                return version;
            }

            point -= weight;
        }

        return VersionId;
    }
}

/// <summary>Whether a function takes calls (DisableFunctionInvocation).</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.InvocationRestriction")]
public sealed record InvocationRestriction
{
    /// <summary>True while calls are refused and waiting tasks stay in the queue.</summary>
    [Id(0)] public bool Disabled { get; init; }

    /// <summary>True while runs are ended too.</summary>
    [Id(1)] public bool Abort { get; init; }

    /// <summary>For people.</summary>
    [Id(2)] public string Reason { get; init; } = "";

    /// <summary>When it last changed.</summary>
    [Id(3)] public DateTimeOffset ModifiedAt { get; init; }
}

/// <summary>Answer to the publication of a version.</summary>
/// <param name="Change">Done, NotFound or TooMany.</param>
/// <param name="Version">The version, if it was published.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.PublishAnswer")]
public sealed record PublishAnswer(
    [property: Id(0)] FunctionChange Change,
    [property: Id(1)] FunctionVersion? Version);
