using System.Text;
using System.Text.RegularExpressions;

namespace GpuTasks.Cards;

/// <summary>Names of the contract for the cards of makers. No I/O.</summary>
internal sealed partial class CardTypes
{
    private const int AnyMiB = int.MaxValue;

    // Word of the product name, memory up to which it counts, type. The first hit counts.
    private static readonly (string Words, int MostMiB, string Type)[] Defaults =
    [
        ("T4", AnyMiB, "fc.gpu.tesla.1"),
        ("A10", AnyMiB, "fc.gpu.ampere.1"),
        ("L20", AnyMiB, "fc.gpu.ada.1"),
        ("L40", AnyMiB, "fc.gpu.ada.3"),
        ("L40S", AnyMiB, "fc.gpu.ada.3"),
        ("RTX 4090", 32 << 10, "fc.gpu.ada.2"),
        ("RTX 4090", AnyMiB, "fc.gpu.ada.3"),
        ("L4", AnyMiB, "fc.gpu.ada.2"),
        ("ADA", 32 << 10, "fc.gpu.ada.2"), // The workstation line carries the generation in its name.
        ("ADA", AnyMiB, "fc.gpu.ada.3"),
        ("H20", AnyMiB, "fc.gpu.hopper.1"),
        ("H100", AnyMiB, "fc.gpu.hopper.1"),
        ("H200", AnyMiB, "fc.gpu.hopper.1"),
        ("H800", AnyMiB, "fc.gpu.hopper.1"),
    ];

    // What a function asks for when it means one whole card (contract 6).
    private static readonly Dictionary<string, int> NominalMiB = new(StringComparer.Ordinal)
    {
        ["fc.gpu.tesla.1"] = 16_384,
        ["fc.gpu.ampere.1"] = 24_576,
        ["fc.gpu.ada.1"] = 49_152,
        ["fc.gpu.ada.2"] = 24_576,
        ["fc.gpu.ada.3"] = 49_152,
        ["fc.gpu.hopper.1"] = 98_304,
    };

    private readonly List<(string Words, string Type)> configured;

    /// <summary>Takes the operator's table: part of a product name (whole words, case does not matter) to type. The longest part that fits wins over every default.</summary>
    public CardTypes(IEnumerable<KeyValuePair<string, string>> configured) =>
        this.configured = [.. configured.Select(pair => (Normal(pair.Key), pair.Value)).OrderByDescending(pair => pair.Item1.Length)];

    /// <summary>True if a text can be a card type.</summary>
    public static bool IsType(string type) => type.Length is > 0 and <= 64 && type.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_');

    /// <summary>Type of a card; an unknown product gets one of its own, such as <c>gpu.tesla-p100-pcie-16gb</c>.</summary>
    public string Of(string name, int memoryMiB)
    {
        var words = Normal(name);
        foreach (var (part, type) in configured)
        {
            if (words.Contains(part, StringComparison.Ordinal))
            {
                return type;
            }
        }

        // A part of a divided card is not what the contract means by the card's type.
        if (!words.Contains(" MIG ", StringComparison.Ordinal))
        {
            foreach (var (part, most, type) in Defaults)
            {
                if (memoryMiB <= most && words.Contains($" {part} ", StringComparison.Ordinal))
                {
                    return type;
                }
            }
        }

        return $"gpu.{Slug(name)}";
    }

    /// <summary>
    /// Memory by which a card is leased. Makers sell 16 GiB of which the driver leaves 15: a card that has at least 85 % of
    /// its type's size by the contract counts as that size, or nobody could ever ask for a whole one.
    /// </summary>
    public static int LeasedAsMiB(string type, int physicalMiB) =>
        NominalMiB.TryGetValue(type, out var nominal) && physicalMiB >= nominal * 0.85 && physicalMiB < nominal ? nominal : physicalMiB;

    private static string Slug(string name)
    {
        var slug = new StringBuilder();
        foreach (var c in name.ToLowerInvariant().Replace("nvidia", "", StringComparison.Ordinal))
        {
            if (char.IsAsciiLetterOrDigit(c) || c == '.')
            {
                slug.Append(c);
            }
            else if (slug.Length > 0 && slug[^1] != '-')
            {
                slug.Append('-');
            }
        }

        var text = slug.ToString().Trim('-', '.');
        return text.Length == 0 ? "unknown" : text.Length <= 48 ? text : text[..48].TrimEnd('-', '.');
    }

    private static string Normal(string name) => $" {Separators().Replace(name.ToUpperInvariant(), " ").Trim()} ";

    [GeneratedRegex(@"[\s\-_/()]+")]
    private static partial Regex Separators();
}
