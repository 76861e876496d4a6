using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace GpuTasks.Gateway.Keys;

/// <summary>An access key and whose it is.</summary>
internal sealed record AccessKey(string Id, string Secret, string Account);

/// <summary>All keys of one reading of the keys file; never changes.</summary>
internal sealed class KeyRing
{
    private const int MinSecretLength = 8;

    private readonly Dictionary<string, AccessKey> accessKeys = new(StringComparer.Ordinal);

    // Looked up by hash, so that the time of a look-up says nothing about the key.
    private readonly Dictionary<string, string> accountOfApiKey = new(StringComparer.Ordinal);
    private readonly HashSet<string> accounts = new(StringComparer.Ordinal);
    private byte[]? operatorKeyHash;

    private KeyRing()
    {
    }

    /// <summary>The access key of an id, or null.</summary>
    public AccessKey? FindAccessKey(string id) => accessKeys.GetValueOrDefault(id);

    /// <summary>The account of an API key, or null.</summary>
    public string? FindApiKey(string key) => accountOfApiKey.GetValueOrDefault(HashText(key));

    /// <summary>Whether there is an account of this id.</summary>
    public bool HasAccount(string id) => accounts.Contains(id);

    /// <summary>Whether this is the operator's key. False for all if none is set.</summary>
    public bool IsOperatorKey(string key) =>
        operatorKeyHash is not null && CryptographicOperations.FixedTimeEquals(operatorKeyHash, SHA256.HashData(Encoding.UTF8.GetBytes(key)));

    /// <summary>Reads a keys file's text.</summary>
    /// <param name="json">The file's text.</param>
    /// <param name="faults">Everything that is wrong with it; then the ring is null.</param>
    public static KeyRing? Parse(string json, List<string> faults)
    {
        try
        {
            using var document = JsonDocument.Parse(json, new JsonDocumentOptions { AllowDuplicateProperties = false, CommentHandling = JsonCommentHandling.Skip });
            var ring = new KeyRing();
            ring.Read(document.RootElement, faults);
            return faults.Count == 0 ? ring : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            faults.Add($"it is not valid JSON: {e.Message}");
            return null;
        }
    }

    private void Read(JsonElement root, List<string> faults)
    {
        if (root.ValueKind != JsonValueKind.Object)
        {
            faults.Add("it must hold one JSON object with 'accounts' and 'operatorKey'");
            return;
        }

        if (root.TryGetProperty("operatorKey", out _) && ReadSecret(root, "operatorKey", "operatorKey", faults) is { } operatorKey)
        {
            operatorKeyHash = SHA256.HashData(Encoding.UTF8.GetBytes(operatorKey));
        }

        var index = 0;
        foreach (var account in Items(root, "accounts", "accounts", faults, required: true))
        {
            ReadAccount(account, $"accounts[{index++}]", faults);
        }
    }

    private void ReadAccount(JsonElement account, string path, List<string> faults)
    {
        if (account.ValueKind != JsonValueKind.Object)
        {
            faults.Add($"{path} must be an object");
            return;
        }

        // It becomes a part of grain keys and of ARNs.
        if (ReadText(account, "id", $"{path}.id", faults) is not { } id)
        {
            return;
        }

        if (id.Length > 64 || !id.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_'))
        {
            faults.Add($"{path}.id must be 1 to 64 letters, digits, '-' or '_'");
        }
        else if (!accounts.Add(id))
        {
            faults.Add($"{path}.id '{id}' occurs twice");
        }

        var index = 0;
        foreach (var key in Items(account, "accessKeys", $"{path}.accessKeys", faults, required: false))
        {
            ReadAccessKey(key, id, $"{path}.accessKeys[{index++}]", faults);
        }

        index = 0;
        foreach (var key in Items(account, "apiKeys", $"{path}.apiKeys", faults, required: false))
        {
            ReadApiKey(key, id, $"{path}.apiKeys[{index++}]", faults);
        }
    }

    private void ReadAccessKey(JsonElement key, string account, string path, List<string> faults)
    {
        if (key.ValueKind != JsonValueKind.Object)
        {
            faults.Add($"{path} must be an object with 'id' and 'secret'");
            return;
        }

        var id = ReadText(key, "id", $"{path}.id", faults);
        var secret = ReadSecret(key, "secret", $"{path}.secret", faults);
        if (id is null || secret is null)
        {
            return;
        }

        if (id.Length > 128 || !id.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.'))
        {
            faults.Add($"{path}.id must be 1 to 128 letters, digits, '-', '_' or '.'");
        }
        else if (!accessKeys.TryAdd(id, new AccessKey(id, secret, account)))
        {
            faults.Add($"{path}.id '{id}' occurs twice");
        }
    }

    private void ReadApiKey(JsonElement key, string account, string path, List<string> faults)
    {
        var text = key.ValueKind == JsonValueKind.String ? key.GetString()! : "";
        if (text.Length < MinSecretLength || !IsHeaderText(text))
        {
            faults.Add($"{path} must be a string of at least {MinSecretLength} printable ASCII characters without blanks");
        }
        else if (IsOperatorKey(text))
        {
            faults.Add($"{path} is also the operator key; they must differ");
        }
        else if (!accountOfApiKey.TryAdd(HashText(text), account))
        {
            faults.Add($"{path} occurs twice");
        }
    }

    private static JsonElement.ArrayEnumerator Items(JsonElement owner, string name, string path, List<string> faults, bool required)
    {
        if (!owner.TryGetProperty(name, out var array))
        {
            if (required)
            {
                faults.Add($"{path} is missing");
            }

            return default;
        }

        if (array.ValueKind != JsonValueKind.Array)
        {
            faults.Add($"{path} must be an array");
            return default;
        }

        return array.EnumerateArray();
    }

    private static string? ReadText(JsonElement owner, string name, string path, List<string> faults)
    {
        if (owner.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String && value.GetString() is { Length: > 0 } text)
        {
            return text;
        }

        faults.Add($"{path} must be a string that is not empty");
        return null;
    }

    private static string? ReadSecret(JsonElement owner, string name, string path, List<string> faults)
    {
        if (ReadText(owner, name, path, faults) is not { } text)
        {
            return null;
        }

        if (text.Length >= MinSecretLength && IsHeaderText(text))
        {
            return text;
        }

        faults.Add($"{path} must have at least {MinSecretLength} printable ASCII characters without blanks");
        return null;
    }

    private static bool IsHeaderText(string text) => text.All(c => c is > ' ' and <= '~');

    /// <summary>Lower-case hex SHA-256, which stands for a key that is kept nowhere.</summary>
    internal static string HashText(string key) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(key)));
}
