//! Tenants and their users.

use super::*;
use crate::store::StoreError;

on_every_store! {
    async fn a_tenant_comes_with_its_root_user(store) {
        store.add_tenant(tenant("one")).await.unwrap();
        store.add_tenant(tenant("two")).await.unwrap();

        let NewTenant { tenant: one, root } = tenant("one");
        assert_eq!(store.tenant("one").await.unwrap(), Some(one));
        assert_eq!(store.root_user("one").await.unwrap(), Some(root));
        assert_eq!(store.tenant("three").await.unwrap(), None);
        let ids: Vec<_> = store.tenants().await.unwrap().into_iter().map(|tenant| tenant.id).collect();
        assert_eq!(ids, ["one", "two"]);
    }

    async fn a_public_key_is_taken_once_and_nothing_is_left_of_the_second(store) {
        store.add_tenant(tenant("one")).await.unwrap();

        let again = NewTenant { root: user("one", "root", "intruder", ROOT_ROLE), ..tenant("one") };

        assert!(matches!(store.add_tenant(again).await, Err(StoreError::TenantTaken)));
        assert_eq!(store.user("one", "intruder").await.unwrap(), None);
    }

    async fn an_address_is_taken_once_in_each_tenant(store) {
        store.add_tenant(tenant("one")).await.unwrap();
        store.add_tenant(tenant("two")).await.unwrap();
        let ann = user("one", "a", "ann", 50);
        store.add_user(&ann).await.unwrap();

        let other = User { id: "other".into(), ..ann.clone() };
        assert!(matches!(store.add_user(&other).await, Err(StoreError::EmailTaken)));
        store.add_user(&User { tenant: "two".into(), ..ann.clone() }).await.unwrap();

        assert_eq!(store.user_by_email("one", "ann@example.com").await.unwrap(), Some(ann));
        assert_eq!(store.user("one", "other").await.unwrap(), None);
    }

    async fn users_are_found_by_id_address_and_account(store) {
        store.add_tenant(tenant("one")).await.unwrap();
        store.add_tenant(tenant("two")).await.unwrap();
        let (ann, bob, eve) = (user("one", "a", "ann", 50), user("one", "a", "bob", 0), user("one", "b", "eve", 50));
        let younger = User { created: at(1), ..ann.clone() };
        for user in [&younger, &bob, &eve] {
            store.add_user(user).await.unwrap();
        }

        assert_eq!(store.user("one", "ann").await.unwrap().as_ref(), Some(&younger));
        assert_eq!(store.user("two", "ann").await.unwrap(), None);
        assert_eq!(store.user_by_email("two", "ann@example.com").await.unwrap(), None);
        assert_eq!(store.account_users("one", "a").await.unwrap(), [bob, younger]);
        assert_eq!(store.account_users("two", "a").await.unwrap(), []);
    }

    async fn a_user_changes_password_and_role_but_nothing_else(store) {
        store.add_tenant(tenant("one")).await.unwrap();
        store.add_tenant(tenant("two")).await.unwrap();
        let ann = user("one", "a", "ann", 0);
        store.add_user(&ann).await.unwrap();
        store.add_user(&User { tenant: "two".into(), ..ann.clone() }).await.unwrap();
        let changed = User {
            password_hash: "new".into(),
            session_epoch: "next".into(),
            root_token_hash: Some("hash".into()),
            role: 100,
            ..ann.clone()
        };

        let moved = User { account: "b".into(), email: "else@example.com".into(), created: at(9), ..changed.clone() };
        assert!(store.update_user(&moved).await.unwrap());

        assert_eq!(store.user("one", "ann").await.unwrap(), Some(changed.clone()));
        assert_eq!(store.user("two", "ann").await.unwrap().map(|user| user.role), Some(0));
        assert!(!store.update_user(&User { id: "nobody".into(), ..changed }).await.unwrap());
    }

    async fn a_user_is_removed_from_one_tenant(store) {
        store.add_tenant(tenant("one")).await.unwrap();
        store.add_tenant(tenant("two")).await.unwrap();

        assert!(store.delete_user("one", "root").await.unwrap());

        assert!(!store.delete_user("one", "root").await.unwrap());
        assert_eq!(store.root_user("one").await.unwrap(), None);
        assert!(store.root_user("two").await.unwrap().is_some());
    }
}
