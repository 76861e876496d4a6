using System.Globalization;

namespace GpuTasks.Cards;

/// <summary>One group of equal simulated cards.</summary>
/// <param name="Type">Card type by the contract.</param>
/// <param name="MemoryMiB">Memory of each.</param>
/// <param name="Count">How many.</param>
internal sealed record CardSpec(string Type, int MemoryMiB, int Count)
{
    /// <summary>Reads <c>type:memoryMiB[xCount],...</c>; empty text means no cards.</summary>
    public static bool TryParse(string text, out IReadOnlyList<CardSpec> groups, out string fault)
    {
        var found = new List<CardSpec>();
        groups = found;
        fault = "";
        foreach (var part in text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            var colon = part.LastIndexOf(':');
            var type = colon > 0 ? part[..colon].Trim() : "";
            var size = colon > 0 ? part[(colon + 1)..].Split('x') : [];
            var count = 1;
            if (type.Length is 0 or > 64
                || type.Any(c => !char.IsAsciiLetterOrDigit(c) && c is not ('.' or '-' or '_'))
                || size.Length is 0 or > 2
                || !TryNumber(size[0], 1, 1 << 22, out var memory)
                || (size.Length == 2 && !TryNumber(size[1], 1, 1_024, out count)))
            {
                fault = $"'{part}' is not of the form type:memoryMiB or type:memoryMiBxCount, such as fc.gpu.tesla.1:16384x4 "
                    + "(memory 1 to 4,194,304 MiB, count 1 to 1,024).";
                return false;
            }

            found.Add(new CardSpec(type, memory, count));
        }

        if (found.Sum(group => group.Count) > 1_024)
        {
            fault = $"{found.Sum(group => group.Count)} cards are more than 1,024.";
            return false;
        }

        return true;
    }

    private static bool TryNumber(string text, int least, int most, out int number) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number) && number >= least && number <= most;
}
