using System.Security.Cryptography;
using System.Text;
using GpuTasks.Nodes;

namespace GpuTasks.Cards;

/// <summary>Cards that exist in configuration only. Identities depend on node name, type and index, so they survive restarts.</summary>
internal sealed class SimulatedCards : ICardSource
{
    /// <summary>Makes the cards of a checked specification.</summary>
    /// <exception cref="FormatException">The specification is wrong.</exception>
    public SimulatedCards(string node, string specification)
    {
        if (!CardSpec.TryParse(specification, out var groups, out var fault))
        {
            throw new FormatException(fault);
        }

        var cards = new List<CardReport>();
        var indexByType = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var group in groups)
        {
            for (var i = 0; i < group.Count; i++)
            {
                var index = indexByType.GetValueOrDefault(group.Type);
                indexByType[group.Type] = index + 1;
                cards.Add(new CardReport
                {
                    Uuid = UuidOf(node, group.Type, index),
                    Type = group.Type,
                    Name = $"simulated {group.Type}",
                    MemoryMiB = group.MemoryMiB,
                    Simulated = true,
                    State = CardState.Ready,
                    Detail = "simulated by configuration",
                });
            }
        }

        Cards = cards;
    }

    /// <inheritdoc />
    public IReadOnlyList<CardReport> Cards { get; }

    /// <inheritdoc />
    public event EventHandler? Changed
    {
        add { } // Configuration is read once.
        remove { }
    }

    /// <summary>Formed like the driver's <c>GPU-…</c>, but told apart by its prefix.</summary>
    internal static string UuidOf(string node, string type, int index) =>
        $"SIM-{new Guid(SHA256.HashData(Encoding.UTF8.GetBytes($"{node}\n{type}\n{index}")).AsSpan(0, 16))}";
}
